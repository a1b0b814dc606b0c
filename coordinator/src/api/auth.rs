//! Who calls: the bearer token of a request, made an actor by `app::sign_in`.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use launchpad_protocol::reason::Reason;

use crate::domain::actor::Actor;

use super::Api;
use super::problem::Problem;

/// Who calls. A handler that takes this first answers nobody else, and learns of the request only then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(pub(super) Actor);

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let header = parts.headers.get(AUTHORIZATION).ok_or_else(no_token)?;
        // RFC 9110 §11.1: the scheme's name has no case.
        let token = header.to_str().ok().and_then(|text| text.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let actor = api.app.sign_in(token.ok_or_else(no_token)?).await?;
        Ok(Self(actor.ok_or_else(wrong_token)?))
    }
}

fn no_token() -> Problem {
    let reason = Reason::new("not-signed-in", "the request carries no API token");
    Problem::unauthorized(reason.mend("send the header `Authorization: Bearer lp_…`; `launchpad login` keeps one"))
}

/// Malformed, unknown, revoked, expired: the caller learns only that it does not open this door.
fn wrong_token() -> Problem {
    let reason = Reason::new("unknown-token", "no such API token, or it was revoked");
    Problem::unauthorized(reason.mend("ask an operator for a new token, and run `launchpad login` with it"))
}
