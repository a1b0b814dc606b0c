//! The routes and their OpenAPI 3.1 document: one list, so that neither can say what the other does not.

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    Api, deployments, domains, egress, failover, health, hosts, keys, logs, pki, plan, recovery, secrets, snapshots,
    upgrades,
};

/// What the document calls its security scheme.
const BEARER: &str = "bearer";

/// Every route of the API.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(head())
        .routes(routes!(deployments::list, deployments::create))
        .routes(routes!(deployments::get, deployments::delete))
        .routes(routes!(deployments::restart))
        .routes(routes!(plan::set))
        .routes(routes!(logs::logs))
        .routes(routes!(egress::get, egress::set))
        .routes(routes!(egress::denials))
        .routes(routes!(domains::list, domains::claim))
        .routes(routes!(domains::remove))
        .routes(routes!(domains::verify))
        .routes(routes!(secrets::list))
        .routes(routes!(secrets::set, secrets::remove))
        .routes(routes!(snapshots::list, snapshots::take))
        .routes(routes!(snapshots::remove))
        .routes(routes!(snapshots::restore))
        .routes(routes!(hosts::list))
        .routes(routes!(hosts::get))
        .routes(routes!(hosts::create_token))
        .routes(routes!(hosts::revoke))
        .routes(routes!(hosts::cordon))
        .routes(routes!(hosts::uncordon))
        .routes(routes!(hosts::retire))
        .routes(routes!(failover::status))
        .routes(routes!(failover::thaw))
        .routes(routes!(upgrades::status, upgrades::start))
        .routes(routes!(upgrades::pause))
        .routes(routes!(upgrades::resume))
        .routes(routes!(upgrades::abort))
        .routes(routes!(upgrades::put_into_ring))
        .routes(routes!(keys::list))
        .routes(routes!(keys::rotate))
        .routes(routes!(pki::status))
        .routes(routes!(pki::rotate))
        .routes(routes!(recovery::status))
        .routes(routes!(recovery::confirm))
        .routes(routes!(health::health))
        .routes(routes!(this_document))
}

/// The document.
#[must_use]
pub fn document() -> OpenApi {
    routes().into_openapi()
}

/// The document as text, as `launchpad-coordinator openapi` prints it.
///
/// # Errors
/// When the serializer refuses, which no document makes it do.
pub fn text() -> Result<String, serde_json::Error> {
    document().to_pretty_json()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "service", security(()), responses((status = 200, body = Object)))]
async fn this_document() -> Json<OpenApi> {
    Json(document())
}

fn head() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Launchpad")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Deploy and watch always-on bots. Every POST takes an Idempotency-Key; every refusal is problem+json with \
             a stable code, a sentence, its cause and its mend. Times are integer microseconds since 1970 UTC.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("lp_<id>_<secret>")
        .description(Some("An API token; it carries an account and a role."))
        .build();
    let components = ComponentsBuilder::new().security_scheme(BEARER, SecurityScheme::Http(bearer)).build();
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new(BEARER, Vec::<String>::new())]))
        .build()
}
