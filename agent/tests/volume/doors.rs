//! Doors that tests stand before the real one: they note what is done, stop as a crash would, or answer for a
//! kernel that has what this one lacks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use launchpad_agent::execute::volume::door::{Door, Machine, Question};
use launchpad_agent::execute::volume::step::Step;
use launchpad_protocol::reason::Reason;

/// Notes every step before it is done.
#[derive(Debug, Clone)]
pub(crate) struct Noting {
    machine: Machine,
    pub(crate) done: Arc<Mutex<Vec<Step>>>,
}

impl Noting {
    pub(crate) fn before(machine: Machine) -> Self {
        Self { machine, done: Arc::default() }
    }

    pub(crate) fn taken(done: &Mutex<Vec<Step>>) -> Vec<String> {
        done.lock().unwrap().drain(..).map(|step| step.to_string()).collect()
    }
}

#[async_trait]
impl Door for Noting {
    async fn quiet(&self) -> Result<(), Reason> {
        self.machine.quiet().await
    }

    async fn carry_out(&self, step: &Step) -> Result<(), Reason> {
        self.done.lock().unwrap().push(step.clone());
        self.machine.carry_out(step).await
    }

    async fn ask(&self, question: &Question) -> Result<String, Reason> {
        self.machine.ask(question).await
    }
}

/// What becomes of the step at which an agent dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// It is not begun.
    Before,
    /// Its program is killed in the middle, if it is the work of a program.
    Amidst,
}

/// Dies at one step: from then on nothing is done, as if the process were gone.
#[derive(Debug)]
pub(crate) struct Dying {
    machine: Machine,
    /// Steps that it lives to do.
    pub(crate) left: Arc<AtomicUsize>,
    death: Death,
    /// Whether that step came.
    pub(crate) dead: Arc<Mutex<Option<Step>>>,
}

impl Dying {
    /// Lives until `left` is set.
    pub(crate) fn before(death: Death, machine: Machine) -> Self {
        Self { machine, left: Arc::new(AtomicUsize::new(usize::MAX)), death, dead: Arc::default() }
    }
}

/// Long enough for a program to begin, short enough that it has not ended.
const AMIDST: Duration = Duration::from_millis(2);

/// Whether a program does it, which can be killed in the middle.
pub(crate) fn is_by_program(step: &Step) -> bool {
    matches!(
        step,
        Step::Format { .. }
            | Step::Check { .. }
            | Step::Enlarge { .. }
            | Step::MountImage { .. }
            | Step::CopyTree { .. }
            | Step::Delete { .. }
    )
}

#[async_trait]
impl Door for Dying {
    async fn quiet(&self) -> Result<(), Reason> {
        self.machine.quiet().await
    }

    async fn carry_out(&self, step: &Step) -> Result<(), Reason> {
        let dead = || Err(Reason::new("dead", "this agent is dead"));
        if self.dead.lock().unwrap().is_some() {
            return dead();
        }
        if self.left.load(Ordering::SeqCst) == 0 {
            *self.dead.lock().unwrap() = Some(step.clone());
            if self.death == Death::Amidst && is_by_program(step) {
                // Dropped half-way, it kills its program.
                let _ = tokio::time::timeout(AMIDST, self.machine.carry_out(step)).await;
            }
            return dead();
        }
        self.left.fetch_sub(1, Ordering::SeqCst);
        self.machine.carry_out(step).await
    }

    async fn ask(&self, question: &Question) -> Result<String, Reason> {
        self.machine.ask(question).await
    }
}

/// What somebody else does to the host in the middle of our work.
pub(crate) type Meddle = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Has somebody meddle, once, right before a step of one kind.
pub(crate) struct Meddling {
    machine: Machine,
    kind: &'static str,
    meddle: Meddle,
}

impl Meddling {
    pub(crate) fn before(kind: &'static str, machine: Machine, meddle: &Meddle) -> Self {
        Self { machine, kind, meddle: Arc::clone(meddle) }
    }
}

impl std::fmt::Debug for Meddling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Meddling before {}", self.kind)
    }
}

#[async_trait]
impl Door for Meddling {
    async fn quiet(&self) -> Result<(), Reason> {
        self.machine.quiet().await
    }

    async fn carry_out(&self, step: &Step) -> Result<(), Reason> {
        if step.kind() == self.kind
            && let Some(meddle) = self.meddle.lock().unwrap().take()
        {
            meddle();
        }
        self.machine.carry_out(step).await
    }

    async fn ask(&self, question: &Question) -> Result<String, Reason> {
        self.machine.ask(question).await
    }
}

/// A kernel with project quotas: everything is done for real, apart from the limits themselves.
#[derive(Debug, Clone)]
pub(crate) struct WithQuotas {
    machine: Machine,
    pub(crate) kernel: Arc<Mutex<Quotas>>,
}

/// What that kernel holds, by project.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    /// Whether it was mounted without them.
    pub(crate) off: bool,
    pub(crate) limits: BTreeMap<u32, u64>,
    pub(crate) used: BTreeMap<u32, u64>,
}

impl WithQuotas {
    pub(crate) fn before(machine: Machine, kernel: &Arc<Mutex<Quotas>>) -> Self {
        Self { machine, kernel: Arc::clone(kernel) }
    }
}

#[async_trait]
impl Door for WithQuotas {
    async fn quiet(&self) -> Result<(), Reason> {
        self.machine.quiet().await
    }

    async fn carry_out(&self, step: &Step) -> Result<(), Reason> {
        if let Step::LimitProject { project, bytes, .. } = step {
            self.kernel.lock().unwrap().limits.insert(*project, *bytes);
            return Ok(());
        }
        self.machine.carry_out(step).await
    }

    async fn ask(&self, question: &Question) -> Result<String, Reason> {
        let kernel = self.kernel.lock().unwrap();
        Ok(match question {
            Question::QuotaState { .. } if kernel.off => String::new(),
            Question::QuotaState { .. } => "Project quota state\n  Accounting: ON\n  Enforcement: ON\n".to_owned(),
            Question::QuotaReport { .. } => {
                let line = |(project, limit): (&u32, &u64)| {
                    let used = kernel.used.get(project).copied().unwrap_or_default();
                    format!("#{project} {} 0 {} 00 [--------]\n", used / 1024, limit / 1024)
                };
                kernel.limits.iter().map(line).collect()
            }
        })
    }
}
