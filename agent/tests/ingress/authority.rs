//! Certificates as in production: by ACME, from an authority that asks back at port 80 or 443. A second Caddy
//! plays it.

use std::fs;
use std::net::TcpStream;

use serde_json::json;

use crate::bots;
use crate::ground::{Ground, caddy, eventually, root, run};
use crate::visitor::visit;

/// Where the authority listens.
const AUTHORITY: &str = "127.0.0.9:9443";

#[test]
fn a_certificate_comes_by_acme_when_a_bots_name_is_asked_for_and_for_no_other() {
    let home = tempfile::tempdir().unwrap();
    let authority_root = root(home.path());
    let options = [
        &["--ingress-tls", "acme", "--acme-directory", "https://ca.example:9443/acme/local/directory"][..],
        &["--acme-email", "operator@example.com", "--acme-root", authority_root.to_str().unwrap()],
    ];
    let Some(mut ground) = Ground::told(&options.concat()) else { return };
    let hosts = home.path().join("hosts");
    fs::write(&hosts, "127.0.0.9 ca.example\n127.0.0.1 one.bots.example\n").unwrap();
    run("mount", &["--bind", hosts.to_str().unwrap(), "/etc/hosts"]);

    let config = home.path().join("authority.json");
    fs::write(&config, authority().to_string()).unwrap();
    let mut authority = caddy(home.path(), &config);
    eventually("the authority to listen", || authority_root.exists() && TcpStream::connect(AUTHORITY).is_ok());
    ground.start_caddy();
    bots::start("one", "127.0.1.1:8080");
    ground.tell(&[(1, "127.0.1.1:8080", &["one.bots.example"])]);

    let page = visit(&authority_root, "https://one.bots.example/", &[]);
    assert_eq!(page.status, 200, "{page:?}\n{}", fs::read_to_string(home.path().join("caddy.log")).unwrap());
    let stranger = visit(&authority_root, "https://stranger.example/", &[]);
    assert_eq!((stranger.status, stranger.exit), (0, 35));
    authority.kill().and_then(|()| authority.wait()).unwrap();
    // One that it has needs the authority no longer.
    assert_eq!(visit(&authority_root, "https://one.bots.example/", &[]).status, 200);
}

fn authority() -> serde_json::Value {
    let routes = json!([{ "match": [{ "host": ["ca.example"] }], "handle": [{ "handler": "acme_server" }] }]);
    let server = json!({
        "listen": [AUTHORITY],
        "routes": routes,
        "tls_connection_policies": [{}],
        "automatic_https": { "disable": true },
    });
    json!({
        "admin": { "disabled": true },
        "apps": {
            "pki": { "certificate_authorities": { "local": { "install_trust": false } } },
            "http": { "servers": { "authority": server } },
            "tls": {
                "certificates": { "automate": ["ca.example"] },
                "automation": { "policies": [{ "issuers": [{ "module": "internal" }] }] },
            },
        },
    })
}
