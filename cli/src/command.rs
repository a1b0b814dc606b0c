//! The verbs, a file each.

mod deploy;
mod domain;
mod egress;
mod follow;
mod hosts;
mod key;
mod login;
mod logs;
mod pki;
mod plan;
mod ps;
mod recover;
mod restart;
mod rm;
mod secret;
mod snapshot;
mod status;
mod upgrade;

use crate::arguments::{
    Access, Arguments, DomainVerb, EgressVerb, HostVerb, HostsVerb, KeyVerb, PkiVerb, RecoverVerb, SecretVerb,
    SnapshotVerb, TokenVerb, Verb,
};
use crate::client::Client;
use crate::failure::Failure;
use crate::login::Login;
use crate::output::Output;

/// Does what the command line says.
pub(crate) fn run(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    let Arguments { access, verb, .. } = arguments;
    let client = || client(&access);
    match verb {
        Verb::Login(login) => login::run(&access, &login, *output),
        Verb::Deploy(deploy) => deploy::run(&client()?, deploy, *output),
        Verb::Ps => ps::run(&client()?, *output),
        Verb::Status(target) => status::run(&client()?, &target, *output),
        Verb::Logs(logs) => logs::run(&client()?, &logs, *output),
        Verb::Restart(awaited) => restart::run(&client()?, &awaited, *output),
        Verb::Rm(remove) => rm::run(&client()?, &remove, *output),
        Verb::Plan(wanted) => plan::run(&client()?, &wanted, *output),
        Verb::Egress { verb: EgressVerb::Show(target) } => egress::show(&client()?, &target, *output),
        Verb::Egress { verb: EgressVerb::Set(rules) } => egress::set(&client()?, &rules, *output),
        Verb::Egress { verb: EgressVerb::Add(rules) } => egress::add(&client()?, &rules, *output),
        Verb::Egress { verb: EgressVerb::Rm(rules) } => egress::remove(&client()?, &rules, *output),
        Verb::Denials(target) => egress::denials(&client()?, &target, *output),
        Verb::Domain { verb: DomainVerb::Add(domain) } => domain::add(&client()?, &domain, *output),
        Verb::Domain { verb: DomainVerb::Ls(target) } => domain::list(&client()?, &target, *output),
        Verb::Domain { verb: DomainVerb::Verify(domain) } => domain::verify(&client()?, &domain, *output),
        Verb::Domain { verb: DomainVerb::Rm(domain) } => domain::remove(&client()?, &domain, *output),
        Verb::Snapshot { verb: SnapshotVerb::Create { target, name, wait } } => {
            snapshot::create(&client()?, &target, name.as_deref(), wait, *output)
        }
        Verb::Snapshot { verb: SnapshotVerb::Ls(target) } => snapshot::list(&client()?, &target, *output),
        Verb::Snapshot { verb: SnapshotVerb::Restore(one) } => snapshot::restore(&client()?, &one, *output),
        Verb::Snapshot { verb: SnapshotVerb::Rm(one) } => snapshot::remove(&client()?, &one, *output),
        Verb::Hosts { verb: None } => hosts::list(&client()?, *output),
        Verb::Hosts { verb: Some(HostsVerb::Inspect(host)) } => hosts::inspect(&client()?, &host, *output),
        Verb::Hosts { verb: Some(HostsVerb::Cordon(host)) } => hosts::cordon(&client()?, &host, true, *output),
        Verb::Hosts { verb: Some(HostsVerb::Uncordon(host)) } => hosts::cordon(&client()?, &host, false, *output),
        Verb::Hosts { verb: Some(HostsVerb::Retire { target, force }) } => {
            hosts::retire(&client()?, &target, force, *output)
        }
        Verb::Hosts { verb: Some(HostsVerb::Upgrade(wanted)) } => upgrade::upgrade(&client()?, &wanted, *output),
        Verb::Hosts { verb: Some(HostsVerb::Ring { target, ring }) } => {
            upgrade::put_into_ring(&client()?, &target, &ring, *output)
        }
        Verb::Hosts { verb: Some(HostsVerb::Thaw) } => hosts::thaw(&client()?, *output),
        Verb::Host { verb: HostVerb::Revoke(host) } => hosts::revoke(&client()?, &host, *output),
        Verb::Host { verb: HostVerb::Token { verb: TokenVerb::Create { name, pool } } } => {
            hosts::create_token(&client()?, name, pool, *output)
        }
        Verb::Secret { verb: SecretVerb::Set(set) } => secret::set(&client()?, &set, *output),
        Verb::Secret { verb: SecretVerb::Ls(target) } => secret::list(&client()?, &target, *output),
        Verb::Secret { verb: SecretVerb::Rm(change) } => secret::remove(&client()?, &change, *output),
        Verb::Key { verb: KeyVerb::Ls } => key::list(&client()?, *output),
        Verb::Key { verb: KeyVerb::Rotate } => key::rotate(&client()?, *output),
        Verb::Pki { verb: PkiVerb::Status } => pki::status(&client()?, *output),
        Verb::Pki { verb: PkiVerb::Rotate { back } } => pki::rotate(&client()?, back, *output),
        Verb::Pki { verb: PkiVerb::Revoke(host) } => pki::revoke(&client()?, &host, *output),
        Verb::Recover { verb: RecoverVerb::Status } => recover::status(&client()?, *output),
        Verb::Recover { verb: RecoverVerb::Confirm { without } } => recover::confirm(&client()?, *output, &without),
    }
}

fn client(access: &Access) -> Result<Client, Failure> {
    Ok(Client::new(Login::find(access)?, access.account.clone()))
}
