//! What a customer may ask of domains.

use super::{DeploymentRef, FieldProblems};
use crate::domain::public_name::PublicName;

/// A domain of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRef {
    /// To which it leads, or is to lead.
    pub deployment: DeploymentRef,
    /// The domain.
    pub name: PublicName,
}

impl DomainRef {
    /// Checks the name.
    ///
    /// # Errors
    /// When it is no host name that anybody can own.
    pub fn new(deployment: DeploymentRef, name: &str) -> Result<Self, FieldProblems> {
        match name.parse() {
            Ok(name) => Ok(Self { deployment, name }),
            Err(_) if name.is_empty() => Err(FieldProblems::one("name", "is missing", MEND)),
            Err(error) => Err(FieldProblems::one("name", crate::sentence(&error), MEND)),
        }
    }
}

/// What a right name is.
const MEND: &str = "a host name of your own, such as `www.example.com`, in ASCII: `xn--…` for other letters";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_domain_is_refused_by_field() {
        for bad in ["", "localhost", "*.example.com", "http://example.com", "203.0.113.7"] {
            let refused = DomainRef::new("web".parse().unwrap(), bad).unwrap_err().0;
            assert_eq!(refused[0].field, "name", "{bad}");
        }
        assert_eq!(
            DomainRef::new("web".parse().unwrap(), "WWW.Example.com.").unwrap().name.as_str(),
            "www.example.com"
        );
    }
}
