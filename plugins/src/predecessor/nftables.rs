//! What `nft -j list table` prints, and what to tell `nft -f -` so that the rules go that newer versions of the
//! reference made for an attachment, and no other's. Pure.

use std::net::IpAddr;

use serde_json::Value;
use zeugma_kernel::NftFamily;

use super::trace::{NFT_MASQUERADE, NFT_PORTS, Part, Trace, named_in_nft};

/// A table's listing.
#[derive(Debug, PartialEq)]
pub(super) struct Listing {
    pub(super) family: NftFamily,
    pub(super) table: String,
    chains: Vec<String>,
    rules: Vec<Rule>,
}

#[derive(Debug, PartialEq)]
struct Rule {
    chain: String,
    handle: u64,
    comment: String,
    statements: Value,
}

impl Rule {
    fn of(rule: &Value) -> Option<Self> {
        Some(Self {
            chain: rule["chain"].as_str()?.to_owned(),
            handle: rule["handle"].as_u64()?,
            comment: rule["comment"].as_str().unwrap_or_default().to_owned(),
            statements: rule["expr"].clone(),
        })
    }

    fn names(&self, address: IpAddr) -> bool {
        let text = address.to_string();
        has_text(&self.statements, &text)
    }

    /// What a match compares the field with.
    fn matched(&self, field: &str) -> Option<(&str, &Value)> {
        self.statements.as_array()?.iter().find_map(|statement| {
            let payload = &statement["match"]["left"]["payload"];
            let is_it = payload["field"] == field;
            is_it.then_some((payload["protocol"].as_str()?, &statement["match"]["right"]))
        })
    }
}

fn has_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(has) => has == text,
        Value::Array(values) => values.iter().any(|value| has_text(value, text)),
        Value::Object(values) => values.values().any(|value| has_text(value, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A published port: protocol, port, address of the host, container ID.
pub(super) type Published<'a> = (&'a str, u16, Option<IpAddr>, &'a str);

impl Listing {
    /// None when it is no JSON of nft's.
    pub(super) fn parse(family: NftFamily, table: &str, json: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(json).ok()?;
        let objects = json["nftables"].as_array()?;
        let chains = objects.iter().filter_map(|object| object["chain"]["name"].as_str());
        Some(Self {
            family,
            table: table.to_owned(),
            chains: chains.map(str::to_owned).collect(),
            rules: objects.iter().filter_map(|object| Rule::of(&object["rule"])).collect(),
        })
    }

    /// The commands that remove what `traces` made; empty when nothing of it is there.
    pub(super) fn without(&self, traces: &[Trace]) -> String {
        let place = format!("{} {}", self.family.as_str(), self.table);
        let is_doomed = |rule: &&Rule| traces.iter().any(|trace| self.made(trace, rule));
        let doomed = self.rules.iter().filter(is_doomed);
        let mut script: String = doomed
            .map(|rule| format!("delete rule {place} {} handle {}\n", rule.chain, rule.handle))
            .collect();
        let guards = traces.iter().flat_map(Trace::guard_chains);
        let guards: Vec<String> =
            guards.filter(|name| self.family == NftFamily::Bridge && self.chains.contains(name)).collect();
        script.extend(guards.iter().map(|chain| format!("flush chain {place} {chain}\n")));
        script.extend(guards.iter().rev().map(|chain| format!("delete chain {place} {chain}\n")));
        script
    }

    /// A rule of `portmap` bears the container's name alone: where its addresses are known, a rule for another
    /// network's address is not meant; where nothing else is known either, none is.
    fn made(&self, trace: &Trace, rule: &Rule) -> bool {
        match (self.family, self.table.as_str()) {
            (NftFamily::Ip | NftFamily::Ip6, NFT_PORTS) => {
                trace.has(Part::Ports)
                    && rule.comment == trace.container
                    && match trace.addresses.as_slice() {
                        [] => trace.ifname.is_some(),
                        addresses => addresses.iter().any(|address| rule.names(*address)),
                    }
            }
            (NftFamily::Inet, NFT_MASQUERADE) => {
                trace.masquerade_comment().is_some_and(|begin| rule.comment.starts_with(&begin))
            }
            (NftFamily::Bridge, "nat") => {
                trace.guard_comment().is_some_and(|comment| rule.comment == comment)
            }
            _ => false,
        }
    }

    /// Whether it has a rule of this trace, naming `address` if one is given.
    pub(super) fn has(&self, trace: &Trace, address: Option<IpAddr>) -> bool {
        self.rules
            .iter()
            .any(|rule| self.made(trace, rule) && address.is_none_or(|address| rule.names(address)))
    }

    /// Interface, container and address of the attachments of a network that are masqueraded.
    pub(super) fn masqueraded<'a>(
        &'a self,
        network: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str, Option<IpAddr>)> {
        self.rules.iter().filter_map(move |rule| {
            let (of, ifname, container) = named_in_nft(&rule.comment)?;
            let address = rule.matched("saddr").and_then(|(_, value)| value.as_str()?.parse().ok());
            (of == network).then_some((ifname, container, address))
        })
    }

    /// Every port that `portmap` publishes.
    pub(super) fn published(&self) -> Vec<Published<'_>> {
        let published = self.rules.iter().filter_map(|rule| {
            let (protocol, port) = rule.matched("dport")?;
            let address = rule.matched("daddr").and_then(|(_, value)| value.as_str()?.parse().ok());
            Some((protocol, u16::try_from(port.as_u64()?).ok()?, address, rule.comment.as_str()))
        });
        published.collect()
    }
}

#[cfg(test)]
mod tests;
