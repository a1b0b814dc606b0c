//! Staff who look beyond their own account are remembered: every such view has its line in the audit log.
//!
//! One line stands for [`VIEW_LASTS`]: whoever follows a deployment asks many times a second and looks once. What was
//! written is remembered by this process only; another replica, or a restart, writes a line too many rather than one
//! too few.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use launchpad_protocol::id::{AccountId, UserId};
use launchpad_protocol::time::Moment;

use super::{App, AppError};
use crate::domain::actor::Actor;
use crate::store::audit::Deed;
use crate::store::{Commit, audit};

/// How long one look lasts.
const VIEW_LASTS: Duration = Duration::from_secs(5 * 60);
/// Looks that are remembered: more staff than any installation has, at more deployments than anybody compares.
const VIEWS_MAX: usize = 4096;

/// The looks that have their line, each until when. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct StaffViews(Arc<Mutex<BTreeMap<View, Moment>>>);

/// Who, what kind of look, at what.
type View = (UserId, &'static str, String);

impl StaffViews {
    fn is_written(&self, view: &View, now: Moment) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(view).is_some_and(|until| now < *until)
    }

    fn written(&self, view: View, now: Moment) {
        // No code panics while it holds this lock, and a map has no half-done state if one did.
        let mut views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        views.retain(|_, until| now < *until);
        if views.len() < VIEWS_MAX {
            views.insert(view, now + VIEW_LASTS);
        }
    }
}

impl App {
    /// Writes down that an actor looks at something of an account's, if that is not their own. `account` is absent where
    /// somebody looks at all of them. To be called before anything is shown: what cannot be written down is not shown.
    ///
    /// # Errors
    /// When the store failed.
    pub(super) async fn note_view(
        &self,
        actor: &Actor,
        action: &'static str,
        account: Option<AccountId>,
        target: String,
    ) -> Result<(), AppError> {
        if account.is_some() && account == actor.account {
            return Ok(());
        }
        let now = self.clock.wall();
        let view = (actor.user, action, target.clone());
        if self.staff_views.is_written(&view, now) {
            return Ok(());
        }
        let deed = Deed { action, target, account, detail: String::new() };
        let note = async |tx: &mut _| audit::record(tx, actor, deed, now).await;
        self.store.write(Commit::NoteView, note).await?;
        self.staff_views.written(view, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use launchpad_protocol::entropy::Entropy;

    use super::*;

    #[test]
    fn a_look_lasts_and_then_is_another() {
        let views = StaffViews::default();
        let start = Moment::from_micros(1);
        let view: View = (Entropy::seeded(1).id(start), "deployment.view", "dep_1".to_owned());
        assert!(!views.is_written(&view, start));
        views.written(view.clone(), start);
        assert!(views.is_written(&view, start + VIEW_LASTS / 2));
        assert!(!views.is_written(&view, start + VIEW_LASTS));
        assert!(!views.is_written(&(view.0, "deployment.logs", view.2), start));
    }
}
