//! What may be asked of a deployment's secrets.

use std::fmt;

use launchpad_protocol::limits::SEALED_FILE_MAX_BYTES;
use zeroize::Zeroizing;

use super::{DeploymentRef, FieldProblems, SecretName};

/// A secret's value. It prints as nothing, and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, for sealing.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// One secret of one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRef {
    /// Whose.
    pub deployment: DeploymentRef,
    /// Which.
    pub name: SecretName,
}

/// Give a secret a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSecret {
    /// Which.
    pub secret: SecretRef,
    /// The value.
    pub value: Secret,
    /// Whether to restart a bot that would not know of it otherwise.
    pub restart: bool,
}

/// Take a secret away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveSecret {
    /// Which.
    pub secret: SecretRef,
    /// Whether to restart a bot that would not know of it otherwise.
    pub restart: bool,
}

impl SecretRef {
    /// The secret of that name.
    ///
    /// # Errors
    /// When no secret can have that name.
    pub fn new(deployment: DeploymentRef, name: &str) -> Result<Self, FieldProblems> {
        match name.parse() {
            Ok(name) => Ok(Self { deployment, name }),
            Err(error) => Err(FieldProblems::one("name", error.to_string(), "letters, digits and . _ - only")),
        }
    }
}

impl SetSecret {
    /// Checks the value.
    ///
    /// # Errors
    /// When it is empty, too long, or nothing that a variable could hold. The value is not repeated.
    pub fn new(secret: SecretRef, value: Secret, restart: bool) -> Result<Self, FieldProblems> {
        let bytes = value.expose().len();
        if bytes == 0 {
            return Err(FieldProblems::one("value", "is empty", "give it a value, or DELETE the secret"));
        }
        if bytes > SEALED_FILE_MAX_BYTES {
            let mend = format!("at most {SEALED_FILE_MAX_BYTES} bytes");
            return Err(FieldProblems::one("value", format!("is {bytes} bytes long"), mend));
        }
        if value.expose().contains('\0') {
            return Err(FieldProblems::one("value", "holds a zero byte", "a text, in base64 if need be"));
        }
        Ok(Self { secret, value, restart })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(value: String) -> Result<SetSecret, FieldProblems> {
        let secret = SecretRef::new("web".parse().unwrap(), "KEY").unwrap();
        SetSecret::new(secret, Secret::new(value), false)
    }

    #[test]
    fn a_value_over_its_size_is_refused_in_numbers_and_not_repeated() {
        assert!(set("x".repeat(SEALED_FILE_MAX_BYTES)).is_ok());
        let refused = set("x".repeat(SEALED_FILE_MAX_BYTES + 1)).unwrap_err().to_string();
        assert!(refused.contains("65537 bytes") && refused.contains("65536") && !refused.contains("xx"), "{refused}");
    }

    #[test]
    fn what_no_file_or_variable_should_hold_is_refused() {
        for bad in ["", "a\0b"] {
            assert_eq!(set(bad.to_owned()).unwrap_err().0[0].field, "value");
        }
    }

    #[test]
    fn a_name_that_could_leave_its_directory_is_none() {
        for bad in ["", "..", "a/b", "a b", &"x".repeat(65)] {
            assert!(SecretRef::new("web".parse().unwrap(), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_value_prints_as_nothing() {
        assert!(!format!("{:?}", set("hunter2".to_owned()).unwrap()).contains("hunter2"));
    }
}
