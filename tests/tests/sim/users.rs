//! What people want of the coordinator, through the verbs that its API has: a bot, another start of it, another secret,
//! another rule, its end. Who asks while it is down is told so, and nothing has happened.

use std::collections::BTreeMap;

use launchpad_coordinator::app::idempotency::Once;
use launchpad_coordinator::app::{App, AppError};
use launchpad_coordinator::command::{
    Catalogue, CreateDeployment, DeploymentDraft, DeploymentRef, Secret, SecretRef, SetEgress, SetSecret,
};
use launchpad_coordinator::domain::actor::Actor;
use launchpad_protocol::digest::Digest;
use launchpad_protocol::id::DeploymentId;
use rand::Rng;
use rand::rngs::StdRng;

use crate::chronicle::Chronicle;
use crate::store_view::inline;

/// What somebody wants; of which bot is drawn when the time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    Create,
    Restart,
    Secret { restart: bool },
    Egress,
    Delete { purge: bool },
}

impl Wish {
    /// Mostly bots at first, then all that one does with them.
    pub(crate) fn draw(chance: &mut StdRng, number: usize) -> Self {
        match chance.random_range(0..12) {
            _ if number < 3 => Self::Create,
            0..=1 => Self::Create,
            2..=4 => Self::Restart,
            5..=6 => Self::Secret { restart: chance.random_bool(0.5) },
            7..=8 => Self::Egress,
            9..=10 => Self::Delete { purge: false },
            _ => Self::Delete { purge: true },
        }
    }
}

/// The people, and what they have asked for so far.
#[derive(Default)]
pub(crate) struct Users {
    bots: Vec<(Actor, DeploymentId)>,
    asked: u32,
}

impl Users {
    pub(crate) fn ask(
        &mut self,
        app: &App,
        owners: &[Actor],
        wish: Wish,
        chance: &mut StdRng,
        chronicle: &Chronicle,
    ) {
        self.asked += 1;
        let answer = match wish {
            Wish::Create => {
                let owner = owners[chance.random_range(0..owners.len())];
                self.create(app, owner)
            }
            Wish::Restart | Wish::Secret { .. } | Wish::Egress | Wish::Delete { .. } => {
                if self.bots.is_empty() {
                    return;
                }
                let (owner, bot) = self.bots[chance.random_range(0..self.bots.len())];
                self.change(app, &owner, bot, wish, chronicle)
            }
        };
        match answer {
            Ok(what) => chronicle.note(format_args!("user: {what}")),
            Err(AppError::Refused(refusal)) => chronicle.note(format_args!("user: {wish:?} is refused: {refusal}")),
            Err(error) => panic!("{wish:?}: {error}"),
        }
    }

    fn create(&mut self, app: &App, owner: Actor) -> Result<String, AppError> {
        let draft = DeploymentDraft {
            account: None,
            name: format!("bot-{}", self.asked),
            profile: "echo".to_owned(),
            plan: "starter".to_owned(),
            image: format!("registry.example/echo@{}", Digest::of(b"echo")),
            pool: None,
            config: None,
            secrets: BTreeMap::from([("key".to_owned(), Secret::new("first".to_owned()))]),
            egress: Vec::new(),
            policy: None,
        };
        let catalogue = Catalogue { profiles: &app.profiles, plans: &app.plans };
        let command = CreateDeployment::new(draft, catalogue).expect("a wish that can be granted");
        let id = inline(app.create_deployment(&owner, command, &Once::unclaimed()))?.id;
        self.bots.push((owner, id));
        Ok(format!("creates {id}"))
    }

    fn change(
        &self,
        app: &App,
        owner: &Actor,
        bot: DeploymentId,
        wish: Wish,
        chronicle: &Chronicle,
    ) -> Result<String, AppError> {
        let named: DeploymentRef = bot.to_string().parse().expect("an id");
        match wish {
            Wish::Create => unreachable!("it is of no bot"),
            Wish::Restart => {
                let restart = inline(app.restart_deployment(owner, &named, &Once::unclaimed()))?;
                chronicle.oracle(|oracle| oracle.ordered(restart));
                Ok(format!("restarts {bot} by {restart}"))
            }
            Wish::Secret { restart } => {
                let secret = SecretRef::new(named, "key").expect("a name");
                let value = Secret::new(format!("value {}", self.asked));
                let command = SetSecret::new(secret, value, restart).expect("a value");
                let changed = inline(app.set_secret(owner, command))?;
                if let Some(restart) = changed.restart {
                    chronicle.oracle(|oracle| oracle.ordered(restart));
                }
                Ok(format!("sets a secret of {bot}, revision {}", changed.revision))
            }
            Wish::Egress => {
                let rule = format!("api-{}.example.org:443", self.asked);
                let command = SetEgress::new(named, &[rule]).expect("a rule");
                inline(app.set_egress(owner, command))?;
                Ok(format!("lets {bot} out"))
            }
            Wish::Delete { purge } => {
                inline(app.delete_deployment(owner, &named, purge))?;
                chronicle.oracle(|oracle| oracle.condemned(bot, purge));
                Ok(format!("deletes {bot}{}", if purge { " and its data" } else { "" }))
            }
        }
    }
}
