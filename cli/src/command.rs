//! The verbs, a file each.

mod deploy;
mod follow;
mod hosts;
mod key;
mod login;
mod logs;
mod ps;
mod recover;
mod restart;
mod rm;
mod secret;
mod status;

use crate::arguments::{Access, Arguments, HostVerb, KeyVerb, RecoverVerb, SecretVerb, TokenVerb, Verb};
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
        Verb::Hosts => hosts::list(&client()?, *output),
        Verb::Host { verb: HostVerb::Show(host) } => hosts::show(&client()?, &host, *output),
        Verb::Host { verb: HostVerb::Revoke(host) } => hosts::revoke(&client()?, &host, *output),
        Verb::Host { verb: HostVerb::Token { verb: TokenVerb::Create { name, pool } } } => {
            hosts::create_token(&client()?, name, pool, *output)
        }
        Verb::Secret { verb: SecretVerb::Set(set) } => secret::set(&client()?, &set, *output),
        Verb::Secret { verb: SecretVerb::Ls(target) } => secret::list(&client()?, &target, *output),
        Verb::Secret { verb: SecretVerb::Rm(change) } => secret::remove(&client()?, &change, *output),
        Verb::Key { verb: KeyVerb::Ls } => key::list(&client()?, *output),
        Verb::Key { verb: KeyVerb::Rotate } => key::rotate(&client()?, *output),
        Verb::Recover { verb: RecoverVerb::Status } => recover::status(&client()?, *output),
        Verb::Recover { verb: RecoverVerb::Confirm { without } } => recover::confirm(&client()?, *output, &without),
    }
}

fn client(access: &Access) -> Result<Client, Failure> {
    Ok(Client::new(Login::find(access)?, access.account.clone()))
}
