//! Who asks, and the one place that says whether they may.
//!
//! `app` calls [`authorise`] before it does anything, and passes [`Actor::scope`] to every query of a tenant's rows.
//!
//! | role     | own account's deployments | another account's | hosts, join tokens | recovery | keys, CA |
//! |----------|---------------------------|-------------------|--------------------|----------|----------|
//! | viewer   | read                      | –                 | –                  | –        | –        |
//! | member   | read, change              | –                 | –                  | –        | –        |
//! | owner    | read, change              | –                 | –                  | –        | –        |
//! | on-call  | read                      | read              | read               | read     | read     |
//! | operator | read, change              | read, change      | read, change       | confirm  | rotate   |

use std::fmt;
use std::str::FromStr;

use launchpad_protocol::id::{AccountId, UserId};
use launchpad_protocol::reason::Reason;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// What somebody is: of an account (owner, member, viewer), or of the staff (operator, on-call).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Of an account: everything in it, its people included.
    Owner,
    /// Of an account: its deployments.
    Member,
    /// Of an account: looks.
    Viewer,
    /// Staff: the fleet, and any account explicitly.
    Operator,
    /// Staff: looks at everything, changes nothing.
    OnCall,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Owner, Self::Member, Self::Viewer, Self::Operator, Self::OnCall];

    /// As it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::OnCall => "on-call",
        }
    }

    /// Whether this is a role of the staff, who see beyond one account.
    #[must_use]
    pub const fn is_staff(self) -> bool {
        match self {
            Self::Operator | Self::OnCall => true,
            Self::Owner | Self::Member | Self::Viewer => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role: expected owner, member, viewer, operator or on-call")]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| RoleError(text.to_owned()))
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    /// The person.
    pub user: UserId,
    /// What they are.
    pub role: Role,
    /// The account in which they act unless they name another. Staff may have none.
    pub account: Option<AccountId>,
}

/// Which rows of tenants a query may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those of one account.
    Account(AccountId),
    /// All: staff, explicitly.
    Every,
    /// None: somebody without an account.
    Nothing,
}

impl Scope {
    /// Whether an account's rows are in it.
    #[must_use]
    pub fn covers(self, account: AccountId) -> bool {
        match self {
            Self::Account(own) => own == account,
            Self::Every => true,
            Self::Nothing => false,
        }
    }
}

impl Actor {
    /// Which rows of tenants this actor may see at all.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        match (self.role.is_staff(), self.account) {
            (true, _) => Scope::Every,
            (false, Some(account)) => Scope::Account(account),
            (false, None) => Scope::Nothing,
        }
    }

    /// Which rows a request is about: those of the named account, or else of the actor's own. Staff without an account
    /// look at all; staff with one go beyond it only by naming another. Another's account is nothing to everybody else.
    #[must_use]
    pub fn scope_in(&self, named: Option<AccountId>) -> Scope {
        match named {
            Some(account) if self.scope().covers(account) => Scope::Account(account),
            Some(_) => Scope::Nothing,
            None => self.account.map_or(self.scope(), Scope::Account),
        }
    }

    /// The account in which a new thing is made: the named one, or the actor's own.
    ///
    /// # Errors
    /// A refusal when neither is there. Whether the actor may act in it is for [`authorise`].
    pub fn acting_in(&self, named: Option<AccountId>) -> Result<AccountId, Refusal> {
        named.or(self.account).ok_or_else(|| {
            let reason = Reason::new("no-account", "this token belongs to no account, and the request names none")
                .mend("name the account, or use a token of an account");
            Refusal::conflict(reason)
        })
    }
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See an account's deployments, their timelines and logs, the names of their secrets.
    ReadDeployments(AccountId),
    /// Make, restart, change or delete an account's deployments.
    ChangeDeployments(AccountId),
    /// See hosts.
    ReadHosts,
    /// Make join tokens, revoke hosts.
    ChangeHosts,
    /// See whether publishing is frozen, and why.
    ReadRecovery,
    /// Let publishing go on.
    ConfirmRecovery,
    /// See which key wraps what.
    ReadKeys,
    /// Make another key that wraps.
    RotateKeys,
    /// See who signs for hosts, and who holds what of it.
    ReadPki,
    /// Move a rotation of the issuing CA on or back.
    RotateCa,
}

/// Whether an actor may do something.
///
/// # Errors
/// A refusal. What belongs to another account is *not found*, so that nobody learns that it exists; what one's role
/// does not allow is *forbidden*, with the role that would.
pub fn authorise(actor: &Actor, action: Action) -> Result<(), Refusal> {
    match action {
        Action::ReadDeployments(account) => own_account(actor, account),
        Action::ChangeDeployments(account) => {
            own_account(actor, account)?;
            match actor.role {
                Role::Owner | Role::Member | Role::Operator => Ok(()),
                Role::Viewer => Err(needs(actor, "member or owner")),
                Role::OnCall => Err(needs(actor, "operator")),
            }
        }
        Action::ReadHosts | Action::ReadRecovery | Action::ReadKeys | Action::ReadPki => match actor.role {
            Role::Operator | Role::OnCall => Ok(()),
            Role::Owner | Role::Member | Role::Viewer => Err(needs(actor, "operator or on-call")),
        },
        Action::ChangeHosts | Action::ConfirmRecovery | Action::RotateKeys | Action::RotateCa => match actor.role {
            Role::Operator => Ok(()),
            Role::Owner | Role::Member | Role::Viewer | Role::OnCall => Err(needs(actor, "operator")),
        },
    }
}

fn own_account(actor: &Actor, account: AccountId) -> Result<(), Refusal> {
    if actor.scope().covers(account) { Ok(()) } else { Err(Refusal::not_found("account", account)) }
}

fn needs(actor: &Actor, role: &str) -> Refusal {
    let reason = Reason::new("role-too-low", format!("a token of role `{}` may not do this", actor.role))
        .mend(format!("use a token of role {role}"));
    Refusal::forbidden(reason)
}

#[cfg(test)]
mod tests {
    use launchpad_protocol::entropy::Entropy;
    use launchpad_protocol::time::Moment;

    use super::*;
    use crate::domain::refusal::RefusalKind;

    fn id<I: launchpad_protocol::id::TypedId>(seed: u64) -> I {
        Entropy::seeded(seed).id(Moment::from_micros(1))
    }

    fn actor(role: Role) -> Actor {
        Actor { user: id(1), role, account: (!role.is_staff()).then(|| id(2)) }
    }

    #[test]
    fn the_table_is_what_the_code_does() {
        let own: AccountId = id(2);
        let other: AccountId = id(3);
        let actions = [
            Action::ReadDeployments(own),
            Action::ChangeDeployments(own),
            Action::ReadDeployments(other),
            Action::ChangeDeployments(other),
            Action::ReadHosts,
            Action::ChangeHosts,
            Action::ReadRecovery,
            Action::ConfirmRecovery,
            Action::ReadKeys,
            Action::RotateKeys,
        ];
        let allowed = |role| {
            actions
                .iter()
                .map(|action| if authorise(&actor(role), *action).is_ok() { 'y' } else { '-' })
                .collect::<String>()
        };
        assert_eq!(allowed(Role::Viewer), "y---------");
        assert_eq!(allowed(Role::Member), "yy--------");
        assert_eq!(allowed(Role::Owner), "yy--------");
        assert_eq!(allowed(Role::OnCall), "y-y-y-y-y-");
        assert_eq!(allowed(Role::Operator), "yyyyyyyyyy");
    }

    #[test]
    fn another_account_is_not_found_rather_than_forbidden() {
        let refusal = authorise(&actor(Role::Owner), Action::ReadDeployments(id(3))).expect_err("another's");
        assert_eq!(refusal.kind, RefusalKind::NotFound);
    }

    #[test]
    fn staff_go_beyond_their_account_only_by_naming_another_and_nobody_else_does() {
        let operator = Actor { account: Some(id(2)), ..actor(Role::Operator) };
        assert_eq!(operator.scope_in(None), Scope::Account(id(2)));
        assert_eq!(operator.scope_in(Some(id(3))), Scope::Account(id(3)));
        assert_eq!(actor(Role::OnCall).scope_in(None), Scope::Every);
        assert_eq!(actor(Role::Owner).scope_in(None), Scope::Account(id(2)));
        assert_eq!(actor(Role::Owner).scope_in(Some(id(3))), Scope::Nothing);
    }

    #[test]
    fn somebody_without_an_account_sees_nothing() {
        let nobody = Actor { user: id(1), role: Role::Owner, account: None };
        assert_eq!(nobody.scope(), Scope::Nothing);
        assert!(authorise(&nobody, Action::ReadDeployments(id(2))).is_err());
        assert!(nobody.acting_in(None).is_err());
    }
}
