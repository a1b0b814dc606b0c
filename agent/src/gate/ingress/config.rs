//! Caddy's whole configuration, made once from the gate's options. Pure.
//!
//! Caddy 2.6.2 closes every open WebSocket at every change of its configuration, other sites' too. So this
//! one holds no bot and no name: what changes is asked for while Caddy works, on a loopback port of the gate
//! ([`super::directory`]).
//!
//! ```text
//! visitor ── TLS ──► certificate for a new name?   GET /ask?domain=NAME      200 | 404
//!         ── HTTP ─► which bot?                    GET /route?domain=NAME    204 + address | 404 + page
//!                    └─► that bot, over its tenant's bridge;  no answer: a calm 503 page
//! ```
//! The look-up is Caddy's `forward_auth` pattern. Its dynamic upstreams (SRV, A) would do too, but they keep
//! what they heard, ask under one lock for all sites, and cannot say why there is no bot.

use std::time::Duration;

use serde_json::{Value, json};

use super::options::{IngressArgs, Signer};
use super::page;

/// The header in which the directory tells a bot's address, as Go spells it.
pub const UPSTREAM_HEADER: &str = "X-Launchpad-Upstream";

/// Bytes of a request's headers. Node, under most bots, takes 16 KiB; Go adds 4 KiB to what it is told.
const HEADER_MAX_BYTES: u32 = 16 * 1024;
/// MiB of a request's body: a phone's picture or a voice message. Chat services hand bots 20 MB at most.
const BODY_MAX_MIB: u64 = 32;
/// From the handshake, or a further request's first byte, to the end of its headers. Somebody who sends a
/// byte now and then gets no longer.
const HEADER_WITHIN: Duration = Duration::from_secs(10);
/// To the end of a request's body: 32 MiB take 270 s at 1 Mbit/s. Answers and WebSockets may take as long as
/// they like.
const BODY_WITHIN: Duration = Duration::from_secs(300);
/// Between two requests of one visitor. Browsers give up after one to five minutes themselves.
const IDLE_MAX: Duration = Duration::from_secs(120);
/// To reach a bot on this very host: a SYN that a busy bot's full queue drops comes again after 1 s.
const DIAL_WITHIN: Duration = Duration::from_secs(2);
/// To the first byte of a bot's answer: a language model that thinks without streaming takes minutes.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);
/// Connections to one bot at a time, WebSockets included: half a core and a thousand open files bear no more,
/// and one besieged bot leaves the rest of Caddy's files to the others. Further requests wait.
const BOT_CONNECTIONS_MAX: u32 = 512;
/// Look-ups at a time: each takes a fraction of a millisecond. Further ones wait.
const LOOKUPS_MAX: u32 = 64;
/// For how long a visitor waits for a gate that is being restarted; an upgrade takes well under a second.
const GATE_BACK_WITHIN: Duration = Duration::from_secs(5);
/// Between two tries to reach it.
const GATE_TRIED_EVERY: Duration = Duration::from_millis(100);
/// For how long requests may finish when Caddy stops; without it, this Caddy waits for them for ever.
const GRACE: Duration = Duration::from_secs(5);
/// How long a connection to the gate or a bot is kept for the next request; the directory keeps it longer.
const KEPT_IDLE: Duration = Duration::from_secs(60);
/// Idle connections kept to one bot: a page load's worth.
const KEPT_PER_BOT_MAX: u32 = 16;

/// Everything that Caddy is to do.
#[must_use]
pub fn config(args: &IngressArgs) -> Value {
    json!({
        "admin": {
            "listen": format!("unix/{}", args.caddy_admin.display()),
            // The file that Caddy starts with is the only one: no second copy in its home.
            "config": { "persist": false },
        },
        // The gate looks once a second; each look would be a line.
        "logging": { "logs": { "default": { "level": "WARN", "exclude": ["admin.api"] } } },
        "apps": {
            "pki": { "certificate_authorities": { "local": { "install_trust": false } } },
            "tls": { "automation": {
                "on_demand": { "ask": format!("http://{}/ask", args.ingress_directory) },
                "policies": [{ "on_demand": true, "issuers": [issuer(args)] }],
            } },
            "http": {
                // At a change, and when Caddy is told to stop.
                "grace_period": duration(GRACE),
                "http_port": args.ingress_http.port(),
                "https_port": args.ingress_https.port(),
                "servers": { "https": https(args), "http": http(args) },
            },
        },
    })
}

fn issuer(args: &IngressArgs) -> Value {
    match args.ingress_tls {
        Signer::Internal => json!({ "module": "internal" }),
        Signer::Acme => {
            let mut issuer = json!({ "module": "acme", "ca": args.acme_directory });
            if let Some(email) = &args.acme_email {
                issuer["email"] = json!(email);
            }
            if let Some(root) = &args.acme_root {
                issuer["trusted_roots_pem_files"] = json!([root]);
            }
            issuer
        }
    }
}

/// What both doors share: bounds, and no certificates that nobody asked for.
fn server(listen: String, protocols: Value, routes: Value) -> Value {
    json!({
        "listen": [listen],
        "protocols": protocols,
        "automatic_https": { "disable": true },
        "max_header_bytes": HEADER_MAX_BYTES,
        "read_header_timeout": duration(HEADER_WITHIN),
        "read_timeout": duration(BODY_WITHIN),
        "idle_timeout": duration(IDLE_MAX),
        "routes": routes,
        "errors": { "routes": errors() },
    })
}

/// The visitors' door. HTTP/3 stays off: this Caddy's QUIC is of 2022.
fn https(args: &IngressArgs) -> Value {
    let max = BODY_MAX_MIB * 1024 * 1024;
    // Refused before a byte of it is read, where its length is told; while it is read, where it is not.
    let announced = format!(
        "{{http.request.header.Content-Length}} != '' && int({{http.request.header.Content-Length}}) > {max}"
    );
    let routes = json!([
        {
            "match": [{ "expression": announced }],
            "handle": [{ "handler": "error", "status_code": 413, "error": TOO_LARGE }],
        },
        { "handle": [
            { "handler": "request_body", "max_size": max },
            lookup(args, &json!([{ "handle": [to_bot()] }])),
        ] },
    ]);
    let mut server = server(args.ingress_https.to_string(), json!(["h1", "h2"]), routes);
    server["tls_connection_policies"] = json!([{}]);
    // A name's certificate speaks for that name alone.
    server["strict_sni_host"] = json!(true);
    server
}

/// The door for browsers that were given a bare name: on to HTTPS, if there is such a bot. ACME's challenges
/// are answered here before any route is asked.
fn http(args: &IngressArgs) -> Value {
    let port = args.ingress_https.port();
    let suffix = if port == HTTPS_PORT { String::new() } else { format!(":{port}") };
    let location = format!("https://{{http.request.host}}{suffix}{{http.request.uri}}");
    let on = json!([{ "handle": [
        { "handler": "static_response", "status_code": "308", "headers": { "Location": [location] } },
    ] }]);
    server(args.ingress_http.to_string(), json!(["h1"]), json!([{ "handle": [lookup(args, &on)] }]))
}

/// HTTPS's own port, which no address names.
const HTTPS_PORT: u16 = 443;

/// Asks the directory about the request's name; `found` if a bot has it, else the directory's own answer.
/// Only the name leaves Caddy: no header, no body.
fn lookup(args: &IngressArgs, found: &Value) -> Value {
    json!({
        "handler": "reverse_proxy",
        "upstreams": [{ "dial": args.ingress_directory.to_string() }],
        "rewrite": { "method": "GET", "uri": "/route?domain={http.request.host}" },
        // Whatever contains nothing: every header there is. A single asterisk makes this Caddy panic.
        "headers": { "request": { "delete": ["**"] } },
        "load_balancing": {
            "try_duration": duration(GATE_BACK_WITHIN),
            "try_interval": duration(GATE_TRIED_EVERY),
        },
        "transport": {
            "protocol": "http",
            "versions": ["1.1"],
            "compression": false,
            "max_conns_per_host": LOOKUPS_MAX,
            "keep_alive": { "idle_timeout": duration(KEPT_IDLE), "max_idle_conns_per_host": LOOKUPS_MAX },
        },
        "handle_response": [{ "match": { "status_code": [204] }, "routes": found }],
    })
}

/// On to the bot. Its X-Forwarded headers are Caddy's own, whatever the visitor sent; so are these.
fn to_bot() -> Value {
    json!({
        "handler": "reverse_proxy",
        "upstreams": [{ "dial": format!("{{http.reverse_proxy.header.{UPSTREAM_HEADER}}}") }],
        "headers": { "request": {
            "set": { "X-Real-Ip": ["{http.request.remote.host}"] },
            "delete": ["Forwarded", UPSTREAM_HEADER],
        } },
        "transport": {
            "protocol": "http",
            "versions": ["1.1"],
            "compression": false,
            "dial_timeout": duration(DIAL_WITHIN),
            "response_header_timeout": duration(ANSWER_WITHIN),
            "max_conns_per_host": BOT_CONNECTIONS_MAX,
            "keep_alive": { "idle_timeout": duration(KEPT_IDLE), "max_idle_conns_per_host": KEPT_PER_BOT_MAX },
        },
    })
}

/// What Go says when a body outgrows its bound; Caddy hands it on in the text of a 502.
const TOO_LARGE: &str = "request body too large";

/// Pages instead of Caddy's blank ones.
fn errors() -> Value {
    let too_large = format!("{{http.error.status_code}} == 413 || {{http.error.message}}.contains('{TOO_LARGE}')");
    // A body that was cut off leaves a connection that nothing more can be read from.
    let mut large = shown("413", &page::too_large(BODY_MAX_MIB));
    large["headers"]["Connection"] = json!(["close"]);
    let mut starting = shown("503", &page::starting());
    starting["headers"]["Retry-After"] = json!([page::RETRY_AFTER_S.to_string()]);
    json!([
        on_error(&too_large, &large),
        on_error("{http.error.status_code} == 421", &shown("421", &page::misdirected())),
        on_error("{http.error.status_code} == 504", &shown("504", &page::late())),
        { "handle": [starting] },
    ])
}

fn on_error(expression: &str, handler: &Value) -> Value {
    json!({ "match": [{ "expression": expression }], "handle": [handler], "terminal": true })
}

fn shown(status: &str, page: &str) -> Value {
    json!({
        "handler": "static_response",
        "status_code": status,
        "headers": { "Content-Type": [page::CONTENT_TYPE], "Cache-Control": ["no-store"] },
        "body": page,
    })
}

/// As Go writes it.
fn duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}
