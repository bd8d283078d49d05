//! Which attachments of the reference GC has to take apart: those of the network that are not valid, as leases and
//! the comments on rules name them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use zeugma_model::{ContainerId, IfName};

use super::iptables::{Rule, Saved};
use super::nftables::Listing;
use super::observe::Found;
use super::trace::{Part, Trace};

/// An address that an IPAM of ours has leased on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) address: IpAddr,
    pub(crate) container: String,
    /// None in files of old versions: any of the container's.
    pub(crate) ifname: Option<String>,
}

/// What GC knows.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) network: &'a str,
    pub(super) valid: &'a BTreeSet<(ContainerId, IfName)>,
    pub(super) leases: &'a [Lease],
}

/// Container and, where it is known, interface, with their addresses.
type Gone = BTreeMap<(String, Option<String>), BTreeSet<IpAddr>>;

impl Known<'_> {
    fn has_container(&self, container: &str) -> bool {
        self.valid.iter().any(|(valid, _)| valid.as_str() == container)
    }

    fn is_valid(&self, container: &str, ifname: Option<&str>) -> bool {
        self.valid.iter().any(|(valid, name)| {
            valid.as_str() == container && ifname.is_none_or(|ifname| ifname == name.as_str())
        })
    }

    /// What attachments that are not valid left in these tables.
    pub(super) fn stale(&self, found: &[Found]) -> Vec<Trace> {
        let mut gone = Gone::new();
        for lease in
            self.leases.iter().filter(|lease| !self.is_valid(&lease.container, lease.ifname.as_deref()))
        {
            let addresses = gone.entry((lease.container.clone(), lease.ifname.clone())).or_default();
            addresses.insert(lease.address);
        }
        for table in found {
            match table {
                Found::Iptables(_, saved) => self.by_comments(saved, &mut gone),
                Found::Nft(listing) => self.by_nft(listing, &mut gone),
            }
        }
        gone.into_iter()
            .map(|((container, ifname), addresses)| self.trace(container, ifname, addresses))
            .collect()
    }

    /// A chain's name has to agree with the comment on the jump to it.
    fn by_comments(&self, saved: &Saved, gone: &mut Gone) {
        let Some(nat) = saved.table("nat") else { return };
        for (rule, container) in nat.rules.iter().filter_map(|rule| self.stale_jump(rule)) {
            let addresses = gone.entry((container.to_owned(), None)).or_default();
            let is_anothers = |source: &IpAddr| {
                self.is_leased(*source)
                    || nat.rules.iter().any(|other| {
                        other.source() == Some(*source)
                            && other.owner().is_some_and(|it| Some(it) != rule.owner())
                    })
            };
            addresses.extend(rule.source().filter(|source| !is_anothers(source)));
        }
    }

    fn stale_jump<'a>(&self, rule: &'a Rule) -> Option<(&'a Rule, &'a str)> {
        let (network, container) = rule.owner()?;
        let chains = self.trace(container.to_owned(), None, BTreeSet::new()).chains();
        let agrees = chains.iter().any(|chain| Some(chain.as_str()) == rule.target());
        (network == self.network && agrees && !self.has_container(container)).then_some((rule, container))
    }

    fn is_leased(&self, address: IpAddr) -> bool {
        let is_it = |lease: &&Lease| lease.address == address;
        self.leases.iter().filter(is_it).any(|lease| self.is_valid(&lease.container, lease.ifname.as_deref()))
    }

    fn by_nft(&self, listing: &Listing, gone: &mut Gone) {
        for (ifname, container, address) in listing.masqueraded(self.network) {
            if !self.is_valid(container, Some(ifname)) {
                let addresses = gone.entry((container.to_owned(), Some(ifname.to_owned()))).or_default();
                addresses.extend(address.filter(|address| !self.is_leased(*address)));
            }
        }
    }

    /// Chains of published ports are one for all interfaces of a container: they stay while one of these is valid.
    fn trace(&self, container: String, ifname: Option<String>, addresses: BTreeSet<IpAddr>) -> Trace {
        let parts = match self.has_container(&container) {
            true if addresses.is_empty() => vec![Part::MacGuard],
            true => vec![Part::Masquerade, Part::MacGuard, Part::Forwarding],
            false => vec![Part::Ports, Part::Masquerade, Part::MacGuard, Part::Forwarding],
        };
        let addresses = addresses.into_iter().collect();
        Trace { network: self.network.to_owned(), container, ifname, addresses, parts }
    }
}

#[cfg(test)]
mod tests;
