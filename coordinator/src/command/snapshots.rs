//! What a customer may ask of snapshots.

use super::deployment::name;
use super::{DeploymentRef, FieldProblems, Name};

/// A snapshot of a deployment's volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRef {
    /// Whose volume.
    pub deployment: DeploymentRef,
    /// Which: a DNS label, because it names a folder on the host.
    pub name: Name,
}

impl SnapshotRef {
    /// Checks the name.
    ///
    /// # Errors
    /// When it is no DNS label.
    pub fn new(deployment: DeploymentRef, text: &str) -> Result<Self, FieldProblems> {
        Ok(Self { deployment, name: snapshot_name(text)? })
    }
}

/// The name of a snapshot.
///
/// # Errors
/// When it is no DNS label.
pub fn snapshot_name(text: &str) -> Result<Name, FieldProblems> {
    let mut problems = FieldProblems::default();
    name(&mut problems, "name", text).ok_or(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshots_name_leads_out_of_no_folder() {
        for bad in ["", "../etc", "a/b", ".", "A", &"a".repeat(64)] {
            let refused = SnapshotRef::new("web".parse().unwrap(), bad).unwrap_err().0;
            assert_eq!(refused[0].field, "name", "{bad}");
        }
        assert!(snapshot_name("before-upgrade-1").is_ok());
    }
}
