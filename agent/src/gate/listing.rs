//! What nftables shows of our table, read from its JSON: pure.
//!
//! `keeper.rs` lists the table right after it has written it and keeps the [`Image`]; any later listing that differs was
//! brought about by somebody else. Nothing is compared with what we wrote, because every version of nft has its own
//! way of saying the same. What may change by itself is no part of an image: the elements of timed sets, and counters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;

/// The table without what changes by itself: each chain, set and counter by its kind and name, and each chain's rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image(BTreeMap<String, Value>);

/// An element of a timed set of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedElement {
    /// Who may go.
    pub bot: Ipv4Addr,
    /// Where to, and on which TCP port.
    pub target: (Ipv4Addr, u16),
    /// The mark of its connections.
    pub mark: u32,
    /// What is left of its time.
    pub left: Duration,
}

/// Somebody was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedElement {
    /// Whose address it came from.
    pub bot: Ipv4Addr,
    /// Where it was to go: `tcp 203.0.113.5:25`, `icmp 203.0.113.5`.
    pub target: String,
    /// Packets.
    pub packets: u64,
    /// How much of the time for which it is remembered is left.
    pub left: Duration,
}

/// One listing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// What does not change by itself.
    pub image: Image,
    /// The elements of timed sets, by bridge.
    pub names: BTreeMap<String, Vec<TimedElement>>,
    /// What was refused, by bridge.
    pub denied: BTreeMap<String, Vec<DeniedElement>>,
    /// How many packets were refused, by bridge.
    pub refused: BTreeMap<String, u64>,
}

impl Listing {
    /// Reads `nft -j list table`.
    ///
    /// # Errors
    /// When it is no listing.
    pub fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(serde::Deserialize)]
        struct Document {
            nftables: Vec<BTreeMap<String, Value>>,
        }
        let mut listing = Self::default();
        for object in serde_json::from_slice::<Document>(json)?.nftables {
            for (kind, content) in object {
                listing.take(&kind, content);
            }
        }
        Ok(listing)
    }

    fn take(&mut self, kind: &str, mut content: Value) {
        let name = content["name"].as_str().unwrap_or_default().to_owned();
        let Some(fields) = content.as_object_mut() else { return };
        fields.remove("handle");
        match kind {
            "metainfo" => return,
            "rule" => {
                let key = format!("rules of {}", fields.get("chain").and_then(Value::as_str).unwrap_or_default());
                let rules = self.image.0.entry(key).or_insert_with(|| Value::Array(Vec::new()));
                rules.as_array_mut().map(|rules| rules.push(content)).unwrap_or_default();
                return;
            }
            "counter" => {
                let packets = fields.remove("packets").and_then(|packets| packets.as_u64()).unwrap_or_default();
                fields.remove("bytes");
                self.refused.extend(name.strip_prefix("denied_").map(|bridge| (bridge.to_owned(), packets)));
            }
            "set" | "map" => {
                let elements = fields.remove("elem").map(into_list).unwrap_or_default();
                if let Some(bridge) = name.strip_prefix("names_") {
                    self.names.insert(bridge.to_owned(), elements.iter().filter_map(timed).collect());
                } else if let Some(bridge) = name.strip_prefix("denied_") {
                    self.denied.insert(bridge.to_owned(), elements.iter().filter_map(denied).collect());
                } else {
                    // A set has no order.
                    let mut texts: Vec<String> = elements.iter().map(ToString::to_string).collect();
                    texts.sort();
                    fields.insert("elem".to_owned(), texts.into());
                }
            }
            _ => {}
        }
        self.image.0.insert(format!("{kind} {name}"), content);
    }
}

impl Image {
    /// What is there in one of the two and not, or differently, in the other: the names of chains, sets and counters.
    #[must_use]
    pub fn differences(&self, other: &Self) -> BTreeSet<String> {
        let keys = self.0.keys().chain(other.0.keys());
        keys.filter(|key| self.0.get(*key) != other.0.get(*key)).cloned().collect()
    }
}

fn into_list(elements: Value) -> Vec<Value> {
    match elements {
        Value::Array(list) => list,
        Value::Null => Vec::new(),
        one @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => vec![one],
    }
}

/// `[{"elem": {"val": {"concat": ["172.29.0.2", "203.0.113.5", 443]}, "timeout": 90, "expires": 88}}, 1275068417]`
fn timed(element: &Value) -> Option<TimedElement> {
    let [key, mark] = element.as_array()?.as_slice() else { return None };
    let [bot, address, port] = key["elem"]["val"]["concat"].as_array()?.as_slice() else { return None };
    Some(TimedElement {
        bot: bot.as_str()?.parse().ok()?,
        target: (address.as_str()?.parse().ok()?, u16::try_from(port.as_u64()?).ok()?),
        mark: u32::try_from(mark.as_u64()?).ok()?,
        left: Duration::from_secs(key["elem"]["expires"].as_u64()?),
    })
}

/// `{"elem": {"val": {"concat": ["172.29.0.2", "203.0.113.5", "tcp", 25]}, "expires": 588, "counter": {"packets": 3, …}}}`
fn denied(element: &Value) -> Option<DeniedElement> {
    let [bot, address, protocol, port] = element["elem"]["val"]["concat"].as_array()?.as_slice() else { return None };
    let (address, port) = (address.as_str()?, port.as_u64()?);
    let protocol = protocol.as_str().map_or_else(|| format!("protocol {protocol}"), str::to_owned);
    let target = if port == 0 { format!("{protocol} {address}") } else { format!("{protocol} {address}:{port}") };
    Some(DeniedElement {
        bot: bot.as_str()?.parse().ok()?,
        target,
        packets: element["elem"]["counter"]["packets"].as_u64()?,
        left: Duration::from_secs(element["elem"]["expires"].as_u64()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 prints it, with what does not matter left out.
    const SHOWN: &str = r#"{"nftables": [
        {"metainfo": {"version": "1.0.6"}},
        {"table": {"family": "inet", "name": "launchpad", "handle": 1}},
        {"counter": {"name": "denied_lp00000000000a", "handle": 6, "packets": 5, "bytes": 300}},
        {"map": {"name": "names_lp00000000000a", "handle": 13, "flags": ["timeout"], "elem": [
            [{"elem": {"val": {"concat": ["172.29.0.2", "203.0.113.5", 443]}, "timeout": 90, "expires": 88}}, 1275068417]]}},
        {"set": {"name": "denied_lp00000000000a", "handle": 16, "timeout": 600, "elem": [
            {"elem": {"val": {"concat": ["172.29.0.2", "169.254.169.254", "tcp", 80]}, "timeout": 600, "expires": 590,
                      "counter": {"packets": 3, "bytes": 180}}},
            {"elem": {"val": {"concat": ["172.29.0.2", "198.51.100.9", "icmp", 0]}, "timeout": 600, "expires": 599,
                      "counter": {"packets": 2, "bytes": 120}}}]}},
        {"set": {"name": "open_lp00000000000a", "handle": 15, "elem": [1275068418, 1275068417]}},
        {"chain": {"name": "from_lp00000000000a", "handle": 2}},
        {"rule": {"chain": "from_lp00000000000a", "handle": 23, "expr": [{"drop": null}]}},
        {"rule": {"chain": "from_lp00000000000a", "handle": 24, "expr": [{"accept": null}]}}]}"#;

    fn read(text: &str) -> Listing {
        Listing::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn elements_and_counts_are_read_with_what_is_left_of_their_time() {
        let listing = read(SHOWN);
        let timed = listing.names["lp00000000000a"][0];
        assert_eq!((timed.bot, timed.target), ([172, 29, 0, 2].into(), ([203, 0, 113, 5].into(), 443)));
        assert_eq!((timed.mark, timed.left), (0x4c00_0001, Duration::from_secs(88)));
        let denied: Vec<_> = listing.denied["lp00000000000a"].iter().map(|denied| denied.target.as_str()).collect();
        assert_eq!(denied, ["tcp 169.254.169.254:80", "icmp 198.51.100.9"]);
        assert_eq!(listing.refused["lp00000000000a"], 5);
    }

    #[test]
    fn handles_counts_and_the_order_of_a_sets_elements_make_no_difference_and_all_else_does() {
        let image = read(SHOWN).image;
        for (from, to) in [
            ("\"handle\": 23", "\"handle\": 99"),
            ("\"packets\": 5", "\"packets\": 7"),
            ("[1275068418, 1275068417]", "[1275068417, 1275068418]"),
            ("\"expires\": 88", "\"expires\": 3"),
        ] {
            assert_ne!(SHOWN.replace(from, to), SHOWN);
            assert_eq!(image.differences(&read(&SHOWN.replace(from, to)).image), BTreeSet::new(), "{from}");
        }
        for (from, to, differs) in [
            ("{\"drop\": null}", "{\"accept\": null}", "rules of from_lp00000000000a"),
            ("1275068418, ", "", "set open_lp00000000000a"),
            ("\"name\": \"from_lp00000000000a\"", "\"name\": \"other\"", "chain other"),
            ("\"timeout\": 600, \"elem\"", "\"timeout\": 1, \"elem\"", "set denied_lp00000000000a"),
            ("[\"timeout\"]", "[\"interval\"]", "map names_lp00000000000a"),
        ] {
            assert_ne!(SHOWN.replace(from, to), SHOWN);
            let found = image.differences(&read(&SHOWN.replace(from, to)).image);
            assert!(found.contains(differs), "{from}: {found:?}");
        }
    }

    #[test]
    fn what_is_no_listing_is_an_error_and_what_is_strange_in_one_is_no_element() {
        Listing::read(b"{\"nftables\": 7}").expect_err("a number");
        let strange =
            r#"{"nftables": [{"map": {"name": "names_lp00000000000a", "elem": [1, "two", [], {"elem": 7}]}}]}"#;
        assert_eq!(read(strange).names["lp00000000000a"], []);
    }
}
