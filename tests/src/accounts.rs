//! Accounts and API tokens that no command makes yet: put where signing up will put them, into the store.
//!
//! Called by scenarios in which more than one account plays. The coordinator runs on meanwhile.

use anyhow::Result;
use launchpad_coordinator::app::sign_in::ApiToken;
use launchpad_coordinator::domain::actor::Role;
use launchpad_coordinator::outside::Outside;
use launchpad_coordinator::store::accounts::{self, Account, User};
use launchpad_coordinator::store::api_tokens::{self, ApiTokenRow};
use launchpad_coordinator::store::{Commit, Intent, Store, StoreError, StoreUrl, Tx};
use launchpad_protocol::id::{AccountId, UserId};

use crate::lab::Lab;

/// Adds an account with one person of each role, and answers their tokens in that order.
///
/// # Errors
/// When the store of the running coordinator cannot be written.
pub fn sign_up(lab: &mut Lab, name: &str, roles: &[Role]) -> Result<Vec<String>> {
    let database = lab.coordinator()?.place().data.join("coordinator.db");
    let outside = Outside::machine();
    let now = outside.clock.wall();
    let account: AccountId = outside.entropy.id(now);
    let people: Vec<_> = roles
        .iter()
        .map(|role| Ok((*role, outside.entropy.id::<UserId>(now), ApiToken::new(outside.entropy.id(now))?)))
        .collect::<Result<_>>()?;
    let sign_up = async |tx: &mut Tx| {
        accounts::create(tx, &Account { id: account, name: name.to_owned(), created_at: now }).await?;
        for (role, user, token) in &people {
            let email = format!("{role}@{name}.example");
            accounts::create_user(tx, &User { id: *user, email, staff: None, created_at: now }).await?;
            accounts::join(tx, account, *user, *role).await?;
            let row = ApiTokenRow {
                id: token.id,
                user: *user,
                account: Some(account),
                role: *role,
                name: "test".to_owned(),
                secret_hash: token.secret_hash(),
                created_at: now,
                expires_at: None,
                revoked_at: None,
            };
            api_tokens::create(tx, &row).await?;
        }
        Ok::<_, StoreError>(())
    };
    let url = StoreUrl::parse(None, &database)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(&url, Intent::Use, now).await?;
        store.write(Commit::Initialise, sign_up).await?;
        store.close().await;
        Ok::<_, anyhow::Error>(())
    })?;
    Ok(people.iter().map(|(_, _, token)| token.to_text().to_string()).collect())
}
