//! A bot's public names: its own from the start, and domains once their owner has proved them.

use std::collections::BTreeSet;
use std::time::Duration;

use launchpad_protocol::generation::Revision;
use launchpad_protocol::id::{AccountId, DeploymentId};

use crate::app::AppError;
use crate::app::domains::DomainView;
use crate::app::idempotency::Once;
use crate::app::lab::{GIB, Lab, LabHost, START, named};
use crate::command::DomainRef;
use crate::domain::actor::{Actor, Role};
use crate::domain::deployment::Event;
use crate::domain::domains::PROOF_GRACE;
use crate::domain::refusal::RefusalKind;
use crate::jobs::domains;
use crate::store::audit;

const NAME: &str = "www.example.org";
const PROOF: &str = "_launchpad.www.example.org";

struct Bench {
    lab: Lab,
    host: LabHost,
    id: DeploymentId,
    member: Actor,
}

impl Bench {
    async fn new() -> Self {
        let lab = Lab::new().await;
        let host = lab.host(16 * GIB).await;
        let id = lab.create("web").await;
        lab.settle().await;
        lab.happen(id, Event::Ready).await;
        let member = lab.actor(Role::Member).await;
        Self { lab, host, id, member }
    }

    fn domain(&self, name: &str) -> DomainRef {
        DomainRef::new(named(self.id), name).unwrap()
    }

    async fn claim(&self, name: &str) -> Result<DomainView, AppError> {
        let claimed = self.lab.app.claim_domain(&self.member, self.domain(name), &Once::unclaimed()).await?;
        assert!(claimed.by_hand);
        Ok(claimed.domain)
    }

    /// Claims the domain and sets its record.
    async fn claim_and_prove(&self) {
        let claim = self.claim(NAME).await.unwrap().claim.unwrap();
        self.lab.names.set(PROOF, &[&claim.token]);
    }

    async fn verify(&self) -> DomainView {
        let view = self.lab.app.verify_domain(&self.member, &self.domain(NAME)).await.unwrap();
        self.lab.settle().await;
        view
    }

    async fn round(&self) {
        domains::round(&self.lab.app).await.unwrap();
        self.lab.settle().await;
    }

    async fn names(&self) -> BTreeSet<String> {
        self.lab.spec(&self.host).await.instances[&self.id].ingress.hostnames.clone()
    }

    fn own(&self) -> String {
        let digits = self.id.uuid().simple().to_string();
        format!("web-{}.bots.example.com", &digits[24..])
    }

    async fn leads_here(&self) -> bool {
        self.names().await.contains(NAME)
    }

    /// Somebody of another account, with a bot of their own.
    async fn rival(&self) -> (Actor, DomainRef) {
        let account: AccountId = self.lab.app.entropy.id(START);
        self.lab.add_account(account).await;
        let rival = Actor { account: Some(account), ..self.lab.actor(Role::Owner).await };
        let wish = self.lab.wish("web", "starter");
        let theirs = self.lab.app.create_deployment(&rival, wish, &Once::unclaimed()).await.unwrap();
        (rival, DomainRef::new(named(theirs.id), NAME).unwrap())
    }
}

fn refused<T>(answer: Result<T, AppError>) -> (RefusalKind, String) {
    match answer {
        Err(AppError::Refused(refusal)) => (refusal.kind, refusal.reason.code),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was granted"),
    }
}

#[tokio::test]
async fn every_bot_has_a_name_of_its_own_from_the_start() {
    let bench = Bench::new().await;
    assert_eq!(bench.names().await, [bench.own()].into());
    let listed = bench.lab.app.domains(&bench.member, &named(bench.id)).await.unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str(), &listed[0].claim), (1, bench.own().as_str(), &None));
}

#[tokio::test]
async fn another_domain_for_public_names_reaches_every_bot_when_the_coordinator_starts() {
    let mut bench = Bench::new().await;
    bench.lab = bench.lab.with_ingress_domain(Some("apps.example.net"));
    assert!(domains::settle(&bench.lab.app).await);
    bench.lab.settle().await;
    assert_eq!(bench.names().await, [bench.own().replace("bots.example.com", "apps.example.net")].into());
    let revision = bench.lab.row(bench.id).await.revision;
    assert!(domains::settle(&bench.lab.app).await);
    assert_eq!(bench.lab.row(bench.id).await.revision, revision, "the second time nothing changes");
    bench.lab = bench.lab.with_ingress_domain(None);
    domains::settle(&bench.lab.app).await;
    bench.lab.settle().await;
    assert_eq!(bench.names().await, BTreeSet::new());
}

#[tokio::test]
async fn a_domain_leads_to_its_bot_once_its_owner_has_proved_it() {
    let bench = Bench::new().await;
    let claimed = bench.claim(NAME).await.unwrap();
    let proof = claimed.proof.unwrap();
    assert_eq!((proof.name.as_str(), proof.value), (PROOF, claimed.claim.unwrap().token.clone()));
    assert_eq!(claimed.leading[0].value, bench.own());
    let unproved = bench.verify().await.claim.unwrap();
    assert_eq!(unproved.trouble.unwrap().code, "domain-unproved");
    assert!(!bench.leads_here().await);
    bench.lab.names.set(PROOF, &["v=spf1 -all", &unproved.token]);
    assert!(bench.verify().await.claim.unwrap().is_verified());
    assert_eq!(bench.names().await, [NAME.to_owned(), bench.own()].into());
    assert_eq!(bench.lab.row(bench.id).await.revision, Revision(2));
    let deeds: Vec<_> =
        bench.lab.read(async |tx| audit::all(tx).await).await.into_iter().map(|(deed, _)| deed.action).collect();
    assert_eq!(deeds[1..], ["domain.claim", "domain.verify", "domain.verify"]);
}

#[tokio::test]
async fn the_job_finds_a_proof_by_itself_and_says_in_the_audit_log_that_it_did() {
    let bench = Bench::new().await;
    bench.claim_and_prove().await;
    bench.round().await;
    assert!(bench.leads_here().await);
    let deed = bench.lab.read(async |tx| audit::all(tx).await).await.pop().unwrap().0;
    assert_eq!(
        (deed.action.as_str(), deed.role.as_str(), deed.account),
        ("domain.verify", "coordinator", Some(bench.lab.account))
    );
}

#[tokio::test]
async fn a_domain_that_one_account_has_proved_is_refused_to_another_and_a_mere_claim_is_not() {
    let bench = Bench::new().await;
    let (rival, theirs) = bench.rival().await;
    bench.claim_and_prove().await;
    bench.lab.app.claim_domain(&rival, theirs.clone(), &Once::unclaimed()).await.unwrap();
    bench.verify().await;
    // Both claims stand; one is proved. The other's proof would not help it.
    let token = bench.lab.app.domains(&rival, &theirs.deployment).await.unwrap().pop().unwrap().claim.unwrap().token;
    bench.lab.names.set(PROOF, &[&token]);
    let view = bench.lab.app.verify_domain(&rival, &theirs).await.unwrap().claim.unwrap();
    assert_eq!((view.is_verified(), view.trouble.unwrap().code.as_str()), (false, "domain-taken"));
    bench.lab.app.remove_domain(&rival, &theirs).await.unwrap();
    let answer = bench.lab.app.claim_domain(&rival, theirs, &Once::unclaimed()).await;
    assert_eq!(refused(answer), (RefusalKind::Conflict, "domain-taken".to_owned()));
    let other = DomainRef::new(named(bench.lab.create("other").await), NAME).unwrap();
    let answer = bench.lab.app.claim_domain(&bench.member, other, &Once::unclaimed()).await;
    assert_eq!(refused(answer), (RefusalKind::Conflict, "domain-in-use".to_owned()));
}

#[tokio::test]
async fn a_domain_is_free_once_it_is_removed_or_its_deployment_deleted() {
    let bench = Bench::new().await;
    let (rival, theirs) = bench.rival().await;
    bench.claim_and_prove().await;
    bench.verify().await;
    let left = bench.lab.app.remove_domain(&bench.member, &bench.domain(NAME)).await.unwrap();
    assert_eq!(left.iter().map(|view| view.name.clone()).collect::<Vec<_>>(), [bench.own()]);
    bench.lab.settle().await;
    assert!(!bench.leads_here().await);
    bench.claim_and_prove().await;
    bench.verify().await;
    bench.lab.app.delete_deployment(&bench.member, &named(bench.id), false).await.unwrap();
    bench.lab.app.claim_domain(&rival, theirs, &Once::unclaimed()).await.unwrap();
}

#[tokio::test]
async fn a_domain_whose_proof_stays_away_for_a_week_leads_there_no_more() {
    let bench = Bench::new().await;
    bench.claim_and_prove().await;
    bench.verify().await;
    bench.lab.names.silence(PROOF);
    for _ in 0..30 {
        bench.lab.advance(Duration::from_secs(12 * 60 * 60));
        bench.round().await;
    }
    assert!(bench.leads_here().await, "a silent name server takes nothing away");
    bench.lab.names.set(PROOF, &[]);
    bench.lab.advance(Duration::from_secs(12 * 60 * 60));
    bench.round().await;
    assert!(bench.leads_here().await);
    bench.lab.advance(PROOF_GRACE);
    bench.round().await;
    assert!(!bench.leads_here().await);
    let deed = bench.lab.read(async |tx| audit::all(tx).await).await.pop().unwrap().0;
    assert_eq!(deed.action, "domain.lapse");
}

#[tokio::test]
async fn what_cannot_be_an_owners_domain_here_is_refused() {
    let bench = Bench::new().await;
    let ours = bench.claim("victim-01234567.bots.example.com").await;
    assert_eq!(refused(ours), (RefusalKind::Impossible, "domain-is-ours".to_owned()));
    for number in 0..launchpad_protocol::limits::HOSTNAMES_MAX - 1 {
        bench.claim(&format!("a{number}.example.org")).await.unwrap();
    }
    assert_eq!(refused(bench.claim(NAME).await), (RefusalKind::Impossible, "too-many-domains".to_owned()));
    let again = bench.claim("a0.example.org").await;
    assert_eq!(refused(again), (RefusalKind::Impossible, "too-many-domains".to_owned()));
    let unknown = bench.lab.app.verify_domain(&bench.member, &bench.domain("b.example.org")).await;
    assert_eq!(refused(unknown).0, RefusalKind::NotFound);
}

#[tokio::test]
async fn a_claim_is_made_once() {
    let bench = Bench::new().await;
    bench.claim(NAME).await.unwrap();
    assert_eq!(refused(bench.claim(NAME).await), (RefusalKind::Conflict, "domain-claimed".to_owned()));
}
