//! Where the reference may have left something, and what is there. First the kernel is asked for names, which is
//! cheap; a program runs only where a name of the reference's is found.

use std::collections::BTreeSet;
use std::net::IpAddr;

use zeugma_kernel::{ForeignChain, Kernel, NftFamily};
use zeugma_plan::Family;

use super::iptables::Saved;
use super::nftables::Listing;
use super::programs::{self, Failure, Iptables, Variant};
use super::trace::{FORWARD, NFT_MASQUERADE, NFT_PORTS, Part, Trace, is_of_a_container};

/// What is looked for.
#[derive(Debug)]
pub(super) struct Sought<'a> {
    /// None: any container's.
    traces: Option<&'a [Trace]>,
    chains: BTreeSet<String>,
    guards: BTreeSet<String>,
}

/// A table that may have what is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// One that iptables made.
    Iptables(Iptables, &'static str),
    /// One that nft made.
    Nft(NftFamily, &'static str),
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// Others may change a table between its listing and the change that rests on it.
const TRIES: usize = 3;

impl<'a> Sought<'a> {
    /// What these left.
    pub(super) fn of(traces: &'a [Trace]) -> Self {
        let chains = traces.iter().flat_map(Trace::chains).collect();
        let guards = traces.iter().flat_map(Trace::guard_chains).collect();
        Self { traces: Some(traces), chains, guards }
    }

    /// What any container has.
    pub(super) fn anybodys() -> Self {
        Self { traces: None, chains: BTreeSet::new(), guards: BTreeSet::new() }
    }

    fn has(&self, part: Part) -> bool {
        self.traces.is_none_or(|traces| traces.iter().any(|trace| trace.has(part)))
    }

    fn has_address(&self, family: Family) -> bool {
        let of_family = |address: &IpAddr| Family::of(*address) == family;
        self.traces.is_none_or(|traces| traces.iter().any(|trace| trace.addresses.iter().any(of_family)))
    }

    fn is_chain(&self, name: &str) -> bool {
        if self.traces.is_some() { self.chains.contains(name) } else { is_of_a_container(name) }
    }

    fn is_guard(&self, name: &str) -> bool {
        if self.traces.is_some() { self.guards.contains(name) } else { name.starts_with("cni-br-iface-") }
    }

    /// The tables that may have it.
    pub(super) fn sources(&self, kernel: &mut Kernel) -> Result<Vec<Source>, zeugma_kernel::Error> {
        let mut sources = Vec::new();
        for family in FAMILIES {
            let chains = kernel.chains(family.into())?;
            sources.extend(self.of_nft(family, &chains));
            sources.extend(self.of_legacy(family, &kernel.legacy_tables(family)));
        }
        if self.has(Part::Masquerade) && has_table(&kernel.chains(NftFamily::Inet)?, NFT_MASQUERADE) {
            sources.push(Source::Nft(NftFamily::Inet, NFT_MASQUERADE));
        }
        if self.has(Part::MacGuard) {
            let chains = kernel.chains(NftFamily::Bridge)?;
            let is_there = chains.iter().any(|chain| chain.table == "nat" && self.is_guard(&chain.name));
            sources.extend(is_there.then_some(Source::Nft(NftFamily::Bridge, "nat")));
        }
        Ok(sources)
    }

    fn of_nft(&self, family: Family, chains: &[ForeignChain]) -> Vec<Source> {
        let tool = Iptables { family, variant: Variant::Nft };
        let in_nat = |chain: &ForeignChain| chain.table == "nat" && self.is_chain(&chain.name);
        let in_filter = |chain: &ForeignChain| chain.table == "filter" && chain.name == FORWARD;
        let forwards = self.has(Part::Forwarding) && self.has_address(family);
        let hits = [
            (chains.iter().any(in_nat), Source::Iptables(tool, "nat")),
            (forwards && chains.iter().any(in_filter), Source::Iptables(tool, "filter")),
            (self.has(Part::Ports) && has_table(chains, NFT_PORTS), Source::Nft(family.into(), NFT_PORTS)),
        ];
        hits.into_iter().filter(|(is_there, _)| *is_there).map(|(_, source)| source).collect()
    }

    /// Nobody but the program itself can tell what is in these.
    fn of_legacy(&self, family: Family, tables: &[String]) -> Vec<Source> {
        let tool = Iptables { family, variant: Variant::Legacy };
        let has = |table: &str| tables.iter().any(|name| name == table);
        let nat = self.has(Part::Ports) || self.has(Part::Masquerade);
        let forwards = self.has(Part::Forwarding) && self.has_address(family);
        let hits = [(nat && has("nat"), "nat"), (forwards && has("filter"), "filter")];
        hits.into_iter().filter(|(hit, _)| *hit).map(|(_, table)| Source::Iptables(tool, table)).collect()
    }
}

fn has_table(chains: &[ForeignChain], table: &str) -> bool {
    chains.iter().any(|chain| chain.table == table)
}

/// A table as it was found.
#[derive(Debug)]
pub(super) enum Found {
    Iptables(Iptables, Saved),
    Nft(Listing),
}

impl Source {
    pub(super) fn read(&self) -> Result<Found, Failure> {
        match *self {
            Self::Iptables(tool, table) => Ok(Found::Iptables(tool, Saved::parse(&tool.save(table)?))),
            Self::Nft(family, table) => {
                let json = programs::nft_list(family, table)?;
                let listing = Listing::parse(family, table, &json);
                listing.map(Found::Nft).ok_or_else(|| Failure::Said("nft -j printed no JSON".into()))
            }
        }
    }

    /// Removes what the traces made in this table, all of it or nothing.
    pub(super) fn clear(&self, traces: &[Trace]) -> Result<(), Failure> {
        let mut last = None;
        for _ in 0..TRIES {
            let outcome = match (self, self.read()?) {
                (Self::Iptables(tool, table), Found::Iptables(_, saved)) => match saved.without(traces) {
                    Some(script) => tool.restore(table, &script),
                    None => return Ok(()),
                },
                (_, Found::Nft(listing)) => match listing.without(traces) {
                    script if script.is_empty() => return Ok(()),
                    script => programs::nft_run(&script),
                },
                (Self::Nft(..), Found::Iptables(..)) => return Ok(()),
            };
            match outcome {
                Err(Failure::Said(what)) => last = Some(Failure::Said(what)),
                other => return other,
            }
        }
        last.map_or(Ok(()), Err)
    }
}
