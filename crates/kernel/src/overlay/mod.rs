//! Brings tunnels, addresses, neighbours, forwarding entries and routes of overlays to what is desired, by rtnetlink.
//!
//! What is desired is decided in `zeugma-overlay`, and so are the changes. WireGuard's device and peers: wireguard.rs
//! beside it; the plan's way into the kernel: turn.rs; messages: encode.rs; answers: observe.rs; what others
//! change: watch.rs; where routers of this host may be: uplinks.rs; checksums of packets in a tunnel: offload.rs.

mod encode;
mod mark;
mod observe;
mod offload;
mod socket;
mod turn;
mod underlay;
mod uplinks;
mod watch;
mod wireguard;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::IfName;
use zeugma_overlay::{
    Desired, LinkSeen, Observed, Path, Peer, Plan, SeenKind, Tunnel, Underlay, additions, plan,
};
use zeugma_plan::Sysctl;

use crate::{Error, routers, sysctl};
use observe::Seen;
use socket::Socket;
use turn::Turn;
use watch::Listener;

pub use crate::ports::port_of_another;
pub use mark::{is_own_tun, mark_tun};
pub use offload::{Checksums, offload, probe_checksums, set_offload};
pub use wireguard::{Wireguard, WireguardDevice, WireguardPeer};

/// The way to the kernel for overlays of this network namespace.
#[derive(Debug)]
pub struct Overlays {
    socket: Socket,
    listener: Listener,
    /// What there was after the last change, as long as nobody else changed it.
    seen: Option<Seen>,
    /// Somebody else changed something while we did.
    is_stale: bool,
    /// Interfaces of which something may be heard that makes what was refused work, and their indexes.
    hopes: BTreeMap<IfName, Option<u32>>,
    /// Links with the addresses by which other hosts reach this one, as they were asked for last.
    underlay: BTreeSet<IfName>,
}

/// What somebody else did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noticed {
    /// This host got or lost an address, maybe one that other hosts reach it by.
    Addresses,
    /// Something of ours is not as it was, or what was refused may work now.
    Objects,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// What was changed, a line each, as `ip` and `bridge` would be told.
    pub changed: Vec<String>,
    /// What could not be, a line each.
    pub failures: Vec<String>,
    /// Devices that are not there after all, or are somebody else's.
    pub missing: BTreeSet<IfName>,
    /// Subnets without the unreachable route: what has no peer's route would leave by another way.
    pub unguarded: BTreeSet<IpNetwork>,
}

impl Overlays {
    /// Opens it, inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn open() -> Result<Self, Error> {
        let (socket, listener) = (Socket::open()?, Listener::open()?);
        let (hopes, underlay) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { socket, listener, seen: None, is_stale: false, hopes, underlay })
    }

    /// Compares all that is ours with `desired` and makes it so, with the least changes. WireGuard devices must be there
    /// already; their addresses and routes are set here, their peers are not.
    ///
    /// What there is is listed at first, after [`Overlays::forget`], and when somebody else changed it.
    ///
    /// # Errors
    /// When what is there cannot be read. What the kernel refused is in the answer.
    pub async fn settle(&mut self, desired: &Desired) -> Result<Settled, Error> {
        self.bring_to(desired, plan).await
    }

    /// Adds what is desired and not there; nothing is taken away or replaced.
    ///
    /// # Errors
    /// As [`Overlays::settle`].
    pub async fn complete(&mut self, desired: &Desired) -> Result<Settled, Error> {
        self.bring_to(desired, additions).await
    }

    async fn bring_to(
        &mut self,
        desired: &Desired,
        plan: fn(&Desired, &Observed) -> Plan,
    ) -> Result<Settled, Error> {
        let wanted = names(desired);
        let heard = self.listener.hear();
        let seen = match self.seen.take().filter(|seen| seen.wanted == wanted && heard.agrees_with(seen)) {
            Some(seen) => seen,
            None => observe::observe(&self.socket, &wanted).await?,
        };
        let plan = plan(desired, &seen.observed);
        let mut turn = Turn::new(&self.socket, &self.listener, ports(desired));
        let seen = turn.apply(&plan, seen).await?;
        let (is_done, is_alone) = (turn.is_done(), turn.is_alone(&seen));
        let mut settled = turn.settled();
        settled.failures.splice(..0, plan.failures());
        let is_missing = |name: &&IfName| !seen.observed.links.get(*name).is_some_and(LinkSeen::is_ours);
        settled.missing = wanted.iter().filter(is_missing).cloned().collect();
        settled.failures.extend(self.hear_routers(desired, &seen));
        let ours = seen.observed.links.iter().filter(|(_, link)| link.is_ours());
        for switch in forwarding(desired).chain(ours.flat_map(|(name, _)| of_device(name))) {
            let set = routers::keep(&switch).and_then(|()| sysctl::set(&switch));
            settled.failures.extend(set.err().map(|error| error.to_string()));
        }
        let index = |name: IfName| (name.clone(), seen.indexes.get(&name).copied());
        self.hopes = if is_done { BTreeMap::new() } else { ways(desired).map(index).collect() };
        self.is_stale = !is_alone;
        self.seen = Some(seen).filter(|_| is_done && is_alone);
        Ok(settled)
    }

    /// Where overlays need IPv6 to be forwarded, routers are heard on uplinks all the same: also one that says nothing
    /// before that, as when the host has just begun. What was refused, a line each.
    fn hear_routers(&self, desired: &Desired, seen: &Seen) -> Vec<String> {
        if !has_subnets(desired, IpNetwork::is_ipv6) {
            return Vec::new();
        }
        let ways = self.underlay.iter().cloned().chain(ways(desired)).collect();
        let refused = uplinks::uplinks(seen, &ways).filter_map(|link| routers::hear(link).err());
        refused.map(|error| error.to_string()).collect()
    }

    /// Looks at everything anew with the next [`Overlays::settle`]: done from time to time, that repairs what nobody
    /// told us of.
    pub fn forget(&mut self) {
        self.seen = None;
    }

    /// Waits until somebody else has changed something of ours, what was refused may work now, or this host's addresses
    /// changed. Nothing is lost when the future is dropped.
    pub async fn changed(&mut self) -> Noticed {
        loop {
            if std::mem::take(&mut self.is_stale) {
                return Noticed::Objects;
            }
            if self.listener.has_moved() {
                return Noticed::Addresses;
            }
            // A socket that broke tells no more: what changes is found when all is compared again.
            let Ok(heard) = self.listener.wait().await else { return std::future::pending().await };
            let helps = heard.messages.iter().any(|message| watch::may_help(message, &self.hopes));
            if helps || self.seen.as_ref().is_some_and(|seen| !heard.agrees_with(seen)) {
                self.seen = None;
                return Noticed::Objects;
            }
        }
    }

    /// The addresses by which other hosts reach this one: those of the given ones that are there, else one of each family
    /// of the interface that its default route leaves by.
    ///
    /// # Errors
    /// When the kernel does not answer, or no interface has any of the given addresses.
    pub async fn underlay(&mut self, wanted: Option<&[IpAddr]>) -> Result<Vec<Underlay>, Error> {
        let found = underlay::underlay(&self.socket, wanted).await?;
        self.underlay = found.iter().map(|underlay| underlay.link.clone()).collect();
        Ok(found)
    }
}

/// For the fuzzer: what is made of a message, whatever is in it, by who knows of links and by who does not yet.
pub(crate) fn fuzz(message: &[u8]) {
    let mut seen = Seen::default();
    for (index, name) in [(1, "lo"), (2, "eth0"), (3, "vx-front"), (4, "wg-front")] {
        let name: IfName = name.parse().expect("an interface's name");
        seen.names.insert(index, name.clone());
        seen.indexes.insert(name.clone(), index);
        if index > 2 {
            let (alias, kind) = (format!("{}front", zeugma_overlay::ALIAS), SeenKind::Wireguard);
            let link = LinkSeen { alias, kind, mac: None, mtu: 1420, up: true };
            seen.observed.links.insert(name.clone(), link);
            seen.wanted.insert(name);
        }
    }
    for _ in 0..2 {
        if let Some(message) = watch::fuzz(message, &seen) {
            underlay::fuzz(message.clone());
            observe::fuzz(message, &mut seen);
        }
    }
}

pub(crate) use wireguard::fuzz as fuzz_wireguard;

fn names(desired: &Desired) -> BTreeSet<IfName> {
    let tunnels = desired.overlays.values().filter_map(|overlay| overlay.tunnel.as_ref());
    tunnels
        .map(|tunnel| match tunnel {
            Tunnel::Vxlan { link, .. } | Tunnel::Wireguard { link, .. } => link.clone(),
        })
        .collect()
}

/// The UDP ports of tunnels.
fn ports(desired: &Desired) -> BTreeMap<IfName, u16> {
    let tunnels = desired.overlays.values().filter_map(|overlay| overlay.tunnel.as_ref());
    tunnels
        .map(|tunnel| match tunnel {
            Tunnel::Vxlan { link, port, .. } | Tunnel::Wireguard { link, port, .. } => (link.clone(), *port),
        })
        .collect()
}

/// Interfaces, not ours, that packets to peers leave by.
fn ways(desired: &Desired) -> impl Iterator<Item = IfName> {
    let peers = desired.overlays.values().flat_map(|overlay| overlay.peers.values());
    let link = |peer: &Peer| match &peer.path {
        Path::Direct { link, .. } => Some(link.clone()),
        Path::Vxlan { .. } | Path::Wireguard { .. } => None,
    };
    peers.filter_map(link)
}

/// This host passes packets on between containers and tunnels.
fn forwarding(desired: &Desired) -> impl Iterator<Item = Sysctl> {
    let v4 = has_subnets(desired, IpNetwork::is_ipv4).then_some("net/ipv4/ip_forward");
    let v6 = has_subnets(desired, IpNetwork::is_ipv6).then_some("net/ipv6/conf/all/forwarding");
    v4.into_iter().chain(v6).map(|path| switch(path.into(), "1"))
}

fn has_subnets(desired: &Desired, family: fn(&IpNetwork) -> bool) -> bool {
    desired.overlays.values().flat_map(|overlay| &overlay.subnets).any(family)
}

/// Packets of containers arrive by a tunnel whose own address is of another block: they are no forgeries. Nobody
/// advertises routers on it.
fn of_device(name: &IfName) -> impl Iterator<Item = Sysctl> + use<> {
    let loose = switch(format!("net/ipv4/conf/{name}/rp_filter"), "2");
    [loose, switch(format!("net/ipv6/conf/{name}/accept_ra"), "0")].into_iter()
}

fn switch(path: String, value: &str) -> Sysctl {
    Sysctl { path, value: value.into(), optional: true }
}
