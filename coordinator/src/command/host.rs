//! What an operator may ask of the fleet.

use super::{DEFAULT_POOL, FieldProblems, Name};

/// Make a single-use token with which one host joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateJoinToken {
    /// What the host will be called; it names itself when this is absent.
    pub name: Option<Name>,
    /// The pool that it joins.
    pub pool: Name,
}

/// The fields as they came.
#[derive(Debug, Clone, Default)]
pub struct JoinTokenDraft {
    /// `name`.
    pub name: Option<String>,
    /// `pool`.
    pub pool: Option<String>,
}

impl CreateJoinToken {
    /// Checks the fields.
    ///
    /// # Errors
    /// Every bad field.
    pub fn new(draft: JoinTokenDraft) -> Result<Self, FieldProblems> {
        let mut problems = FieldProblems::default();
        let name = draft.name.and_then(|text| super::deployment::name(&mut problems, "name", &text));
        let pool = draft.pool.unwrap_or_else(|| DEFAULT_POOL.to_owned());
        match (super::deployment::name(&mut problems, "pool", &pool), problems.is_empty()) {
            (Some(pool), true) => Ok(Self { name, pool }),
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_pool_joins_the_shared_one() {
        let command = CreateJoinToken::new(JoinTokenDraft::default()).unwrap();
        assert_eq!((command.name, command.pool.as_str()), (None, DEFAULT_POOL));
    }

    #[test]
    fn both_bad_fields_are_listed() {
        let draft = JoinTokenDraft { name: Some("Web 1".to_owned()), pool: Some(String::new()) };
        let fields: Vec<_> = CreateJoinToken::new(draft).unwrap_err().0.into_iter().map(|p| p.field).collect();
        assert_eq!(fields, ["name", "pool"]);
    }
}
