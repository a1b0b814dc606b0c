//! The kernel's side: our table and our routing rules as they are, and as they should be.
//!
//! Only `keeper.rs` holds a [`Kernel`]. It has no policy of its own: it is told what is wanted, writes it in one batch,
//! and says how what is there differs from what it wrote. Between two listings nftables' generation, which rises by one
//! with every change that anybody makes, says whether anything has changed at all; so looking costs next to nothing
//! while nothing happens.
//!
//! ```text
//! write ─► list ─► image ──── generation the same ───► still ours
//!                    └─────── list again, compare ───► ours, or what differs, by tenant
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use launchpad_protocol::reason::Reason;
use tokio::time::Instant;

use super::admitted::{CLOCKS_APART, Element};
use super::listing::{Image, Listing, TimedElement};
use super::netfilter::Netfilter;
use super::nft;
use super::policy::is_bridge_of_ours;
use super::routes::{MARK, MARK_MASK, Routes};
use super::rules::{TABLE, Wanted};
use super::watch::Own;

/// The sets of the frame by which tenants' packets are found: they change with every tenant that comes or goes.
const ENTRANCE: [&str; 4] = ["map tenants", "set bridges", "set neighbours", "set subnets"];

/// Times in a row that everything is written anew because somebody else, Docker mostly, wrote meanwhile. After as many,
/// what is there counts as unknown, and the next look writes it once more.
const ALONE_TRIES: usize = 5;

/// How what is in the kernel differs from what should be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// What concerns everybody.
    pub of_all: Option<Reason>,
    /// What concerns the tenant behind a bridge.
    pub of: BTreeMap<String, Reason>,
}

impl Differences {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of_all.is_none() && self.of.is_empty()
    }

    /// What concerns one tenant.
    #[must_use]
    pub fn at(&self, bridge: &str) -> Option<&Reason> {
        self.of.get(bridge).or(self.of_all.as_ref())
    }

    fn note(&mut self, bridge: Option<&str>, reason: Reason) {
        match bridge {
            Some(bridge) => drop(self.of.entry(bridge.to_owned()).or_insert(reason)),
            None => drop(self.of_all.get_or_insert(reason)),
        }
    }
}

/// What we have written, and how it is seen.
#[derive(Debug)]
pub struct Kernel {
    routes: Routes,
    netfilter: Netfilter,
    own: Arc<Own>,
    /// What the table looked like after we wrote it; none: that is not known.
    image: Option<Image>,
    /// Bridges whose part of the image is older than what we wrote since.
    unseen: BTreeSet<String>,
    /// The generation in which everything was ours.
    ours: Option<u32>,
    /// How much had been refused when that was last listed.
    refused: Option<u64>,
}

impl Kernel {
    /// The kernel of this process's network namespace.
    ///
    /// # Errors
    /// When it has no routing rules or no nftables.
    pub fn open(own: Arc<Own>) -> Result<Self, Reason> {
        let netfilter = Netfilter::open().map_err(|error| {
            Reason::new("nftables-missing", "the kernel has no nftables")
                .because(error.to_string())
                .mend("boot a kernel with nftables (CONFIG_NF_TABLES_INET), as every distribution has it")
        })?;
        let routes = Routes::open()?;
        Ok(Self { routes, netfilter, own, image: None, unseen: BTreeSet::new(), ours: None, refused: None })
    }

    /// Under which port listeners see our changes of routing rules.
    #[must_use]
    pub const fn routes_port(&self) -> u32 {
        self.routes.port()
    }

    /// Whether nobody has changed any of nftables' rules since all of ours were as they should be.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.ours.is_some() && self.ours == self.netfilter.generation()
    }

    /// What there is of our table; none: there is no such table.
    ///
    /// # Errors
    /// When `nft` cannot tell.
    pub async fn list(&self) -> Result<Option<Listing>, Reason> {
        let Some(json) = nft::list(TABLE).await? else { return Ok(None) };
        Listing::read(&json).map(Some).map_err(|error| nft::failed("list the rules", &error.to_string()))
    }

    /// Makes everything what it should be, whatever it is: routing rules first, for they hold alone. When it was done:
    /// looking at what was made takes longer.
    ///
    /// # Errors
    /// When the kernel refuses; what was there before is there still.
    pub async fn replace(&mut self, wanted: &Wanted<'_>) -> Result<Instant, Reason> {
        self.put_routes(wanted)?;
        let mut done = Instant::now();
        for _ in 0..ALONE_TRIES {
            (self.ours, self.image) = (None, None);
            let before = self.netfilter.generation();
            self.apply(&wanted.whole()).await?;
            done = Instant::now();
            let written = self.netfilter.generation().filter(|written| is_next(before, *written));
            let image = self.list().await?.map(|listing| listing.image);
            self.unseen.clear();
            // Nobody came in between: what is listed is what was written. Otherwise it may be anything.
            if written.is_some() && self.netfilter.generation() == written {
                (self.ours, self.image) = (written, image);
                break;
            }
        }
        self.clear_routes(wanted)?;
        Ok(done)
    }

    /// Carries a batch out that is about that bridge and no other.
    ///
    /// # Errors
    /// When the kernel refuses; nothing has changed then.
    pub async fn change(&mut self, batch: &str, bridge: Option<&str>) -> Result<(), Reason> {
        let before = self.ours;
        self.ours = None;
        self.apply(batch).await?;
        self.unseen.extend(bridge.map(str::to_owned));
        // One step further, and it was ours: nobody else has changed anything meanwhile.
        self.ours = self.netfilter.generation().filter(|after| is_next(before, *after));
        Ok(())
    }

    /// Sees that the routing rules of every tenant stand; whose did not.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn put_routes(&self, wanted: &Wanted<'_>) -> Result<BTreeSet<String>, Reason> {
        let missing = self.routes.missing(wanted.bridges())?;
        missing.iter().try_for_each(|bridge| self.routes.put(bridge))?;
        Ok(missing)
    }

    /// Takes away the routing rules of tenants that are no more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn clear_routes(&self, wanted: &Wanted<'_>) -> Result<(), Reason> {
        self.routes.clear_but(wanted.bridges())
    }

    /// How the kernel differs from what is wanted; with a listing, if one had to be made.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub async fn look(&mut self, wanted: &Wanted<'_>) -> Result<(Differences, Option<Listing>), Reason> {
        let mut found = Differences::default();
        for bridge in self.routes.missing(wanted.bridges())? {
            found.note(Some(&bridge), away("routing rules", &bridge));
        }
        let (generation, refused) = (self.netfilter.generation(), self.netfilter.refused());
        if self.is_untouched() && refused == self.refused {
            return Ok((found, None));
        }
        let listing = self.list().await?;
        self.refused = refused;
        self.compare(wanted, listing.as_ref(), &mut found);
        if found.is_empty() {
            self.image = listing.as_ref().map(|listing| listing.image.clone());
            self.unseen.clear();
            self.ours = generation;
        }
        Ok((found, listing))
    }

    fn compare(&self, wanted: &Wanted<'_>, listing: Option<&Listing>, found: &mut Differences) {
        let tenants = &wanted.state.policy.tenants;
        let Some(listing) = listing else {
            if !tenants.is_empty() {
                found.note(None, away("rules", "every tenant"));
            }
            return;
        };
        let Some(image) = &self.image else {
            found.note(None, altered("table", "all of it"));
            return;
        };
        for key in image.differences(&listing.image) {
            let bridge = key.rsplit('_').next().filter(|tail| is_bridge_of_ours(tail));
            let expected = match bridge {
                Some(bridge) => self.unseen.contains(bridge),
                None => !self.unseen.is_empty() && ENTRANCE.contains(&key.as_str()),
            };
            if !expected {
                found.note(bridge, altered(&key, "our table"));
            }
        }
        for tenant in tenants.values() {
            let shown = listing.names.get(&tenant.bridge).map(Vec::as_slice).unwrap_or_default();
            let held = wanted.admitted.elements(&wanted.state.policy, |_| true, wanted.now);
            let held = held.filter(|element| tenant.subnet.contains(element.bot));
            if !agree(held, shown, wanted.now) {
                found.note(Some(&tenant.bridge), altered(&format!("map names_{}", tenant.bridge), "our table"));
            }
        }
    }

    async fn apply(&self, batch: &str) -> Result<(), Reason> {
        nft::apply(batch, |process| self.own.note(process)).await
    }
}

/// Whether one change, and no more, lies between two generations.
fn is_next(before: Option<u32>, after: u32) -> bool {
    before.map(|before| before.wrapping_add(1)) == Some(after)
}

/// Whether the kernel holds what was admitted and nothing else, as far as two clocks can agree.
fn agree(held: impl Iterator<Item = Element>, shown: &[TimedElement], now: Instant) -> bool {
    let held: BTreeMap<_, Element> = held.map(|element| ((element.bot, element.target), element)).collect();
    let keyed: BTreeMap<_, &TimedElement> =
        shown.iter().map(|element| ((element.bot, element.target), element)).collect();
    let missing = held.iter().any(|(key, element)| {
        element.until.saturating_duration_since(now) > CLOCKS_APART && !keyed.contains_key(key)
    });
    let strange = keyed.iter().any(|(key, shown)| {
        let ours = held.get(key).is_some_and(|element| {
            let left = element.until.saturating_duration_since(now);
            shown.mark == (MARK | element.number) && shown.left <= left + CLOCKS_APART
        });
        // What has just ended for us may have a moment left in the kernel.
        !ours && (shown.left > CLOCKS_APART || shown.mark & MARK_MASK != MARK)
    });
    !missing && !strange
}

fn away(what: &str, whose: &str) -> Reason {
    Reason::new("rules-away", format!("the {what} of {whose} are not in the kernel"))
        .because("somebody took them away, or they could not be made")
        .mend("the gate puts them back by itself; `journalctl -u launchpad-gate` tells what keeps it from that")
}

fn altered(what: &str, whose: &str) -> Reason {
    Reason::new("rules-altered", format!("`{what}` is not what the gate made ({whose})"))
        .because("somebody else wrote to `table inet launchpad`")
        .mend("the gate makes it anew by itself; leave that table to it")
}
