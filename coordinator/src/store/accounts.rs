//! Accounts, the people, and who belongs to which.

use launchpad_protocol::id::{AccountId, UserId};
use launchpad_protocol::time::Moment;

use super::tx::{StoreError, Tx};
use crate::domain::actor::Role;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created_at: Moment,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Their id.
    pub id: UserId,
    /// Where they are reached; unique.
    pub email: String,
    /// Their role on the staff, if they have one.
    pub staff: Option<Role>,
    /// When they were added.
    pub created_at: Moment,
}

/// Adds an account.
///
/// # Errors
/// When SQL fails.
pub async fn create(tx: &mut Tx, account: &Account) -> Result<(), StoreError> {
    let sql = sqlx::query("INSERT INTO accounts (id, name, created_at) VALUES ($1, $2, $3)")
        .bind(account.id.to_string())
        .bind(account.name.clone())
        .bind(account.created_at.micros());
    tx.execute("add an account", sql).await.map(drop)
}

/// One account.
///
/// # Errors
/// When SQL fails.
pub async fn get(tx: &mut Tx, id: AccountId) -> Result<Option<Account>, StoreError> {
    let sql = sqlx::query("SELECT id, name, created_at FROM accounts WHERE id = $1").bind(id.to_string());
    let Some(row) = tx.optional("read an account", sql).await? else { return Ok(None) };
    Ok(Some(Account { id: row.parse("id")?, name: row.text("name")?, created_at: row.moment("created_at")? }))
}

/// Adds a person.
///
/// # Errors
/// When SQL fails, as it does for an address that is taken.
pub async fn create_user(tx: &mut Tx, user: &User) -> Result<(), StoreError> {
    let sql = sqlx::query("INSERT INTO users (id, email, role, created_at) VALUES ($1, $2, $3, $4)")
        .bind(user.id.to_string())
        .bind(user.email.clone())
        .bind(user.staff.map(Role::as_str))
        .bind(user.created_at.micros());
    tx.execute("add a user", sql).await.map(drop)
}

/// Makes a person a member of an account.
///
/// # Errors
/// When SQL fails.
pub async fn join(tx: &mut Tx, account: AccountId, user: UserId, role: Role) -> Result<(), StoreError> {
    let sql = sqlx::query("INSERT INTO memberships (account_id, user_id, role) VALUES ($1, $2, $3)")
        .bind(account.to_string())
        .bind(user.to_string())
        .bind(role.as_str());
    tx.execute("add a member", sql).await.map(drop)
}
