//! Which plan a customer may choose for a bot that exists.

use super::deployment::{choose, unknown};
use super::{DeploymentRef, FieldProblems};
use crate::domain::plan_table::{Plan, PlanTable};

/// Let a bot use what that plan grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetPlan {
    /// Whose.
    pub deployment: DeploymentRef,
    /// The plan.
    pub plan: Plan,
}

impl SetPlan {
    /// Looks the plan up.
    ///
    /// # Errors
    /// When there is no such plan: its mend names those that there are.
    pub fn new(deployment: DeploymentRef, plan: &str, plans: &PlanTable) -> Result<Self, FieldProblems> {
        match plans.get(plan) {
            Some(plan) => Ok(Self { deployment, plan: plan.clone() }),
            None => Err(FieldProblems::one("plan", unknown(plan), choose(&plans.names()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_plan_is_refused_with_the_names_of_those_that_there_are() {
        let new = |plan| SetPlan::new("web".parse().unwrap(), plan, &PlanTable::default());
        assert_eq!(new("pro").unwrap().plan.name, "pro");
        let told = new("enormous").unwrap_err().0.remove(0);
        assert_eq!(told.field, "plan");
        for name in ["pro", "starter", "team"] {
            assert!(told.mend.contains(name), "{}", told.mend);
        }
    }
}
