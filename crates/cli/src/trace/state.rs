//! What a trace goes by: the journal, elements of our tables, others' chains; and the kernel's routes, asked on the way.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use zeugma_api::{OverlayView, PEERS};
use zeugma_journal::{Journal, OverlayStates, run_dir};
use zeugma_kernel::{Kernel, Leaving, Programmer, Way, listener};
use zeugma_model::{IfName, OverlayState, Protocol};
use zeugma_plan::nft::services::{Backend, Element as Serving, Frontend};
use zeugma_plan::nft::{Element, SetId, Value, skeleton};
use zeugma_plan::{Family, Side};

use crate::client::Question;
use crate::host::filters::Filters;
use crate::host::{self, Attached, Link};

/// A host at one moment.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) attached: Vec<Attached>,
    pub(super) links: BTreeMap<IfName, Link>,
    /// Of table `inet zeugma`.
    pub(super) elements: Vec<Element>,
    /// Of table `inet zeugma_services`.
    pub(super) serving: Vec<Serving>,
    pub(super) filters: Filters,
    pub(super) overlays: Vec<OverlayState>,
    /// Of the agent; none when it does not run.
    pub(super) peers: Vec<OverlayView>,
    /// Whether the host routes, by family.
    pub(super) forwards: [bool; 2],
    /// Whether filters of IP see what stays on a bridge, by family.
    pub(super) sees_bridged: [bool; 2],
}

/// What is asked on the way.
pub(super) trait Around {
    /// The way of a packet from the host, or from a container.
    fn way(&mut self, inside: Option<&Attached>, leaving: &Leaving) -> Result<Way>;
    /// Who listens on the host, or whether somebody does in a container; none: nobody.
    fn listener(&mut self, inside: Option<&Attached>, protocol: Protocol, at: SocketAddr) -> Option<String>;
}

/// The kernel.
pub(super) struct Live(pub(super) Kernel);

impl Around for Live {
    fn way(&mut self, inside: Option<&Attached>, leaving: &Leaving) -> Result<Way> {
        match inside {
            None => Ok(self.0.way(Side::Host, leaving)?),
            Some(one) => Ok(Kernel::with_container(&netns(one)?)?.way(Side::Container, leaving)?),
        }
    }

    fn listener(&mut self, inside: Option<&Attached>, protocol: Protocol, at: SocketAddr) -> Option<String> {
        let Some(one) = inside else { return listener(protocol, at).map(|by| by.to_string()) };
        let kernel = Kernel::with_container(&netns(one).ok()?).ok()?;
        // What cannot be looked at may listen.
        let is_free = kernel.is_free_inside(protocol, at).unwrap_or_default();
        (!is_free).then(|| "a program".into())
    }
}

/// Where a container's namespace is.
///
/// # Errors
/// When it is gone.
pub(super) fn netns(one: &Attached) -> Result<PathBuf> {
    let netns = one.netns.as_ref().filter(|_| one.is_alive);
    Ok(netns.with_context(|| format!("the namespace of {} is gone", one.shown()))?.path.clone())
}

impl State {
    /// Looks at this host.
    ///
    /// # Errors
    /// When the journal or the kernel cannot be asked: not root, say.
    pub(super) fn observe(kernel: &mut Kernel) -> Result<Self> {
        let mut elements = Vec::new();
        for set in skeleton().sets {
            elements.extend(kernel.members(set)?);
        }
        let is_on = |path: &str| {
            kernel.sysctl(Side::Host, path).ok().flatten().is_some_and(|value| value.trim() == "1")
        };
        let forwards = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].map(is_on);
        let sees_bridged =
            ["iptables", "ip6tables"].map(|which| is_on(&format!("net/bridge/bridge-nf-call-{which}")));
        Ok(Self {
            attached: host::attached(&Journal::default())?,
            links: host::links(kernel)?,
            elements,
            serving: Programmer::open()?.observe()?,
            filters: Filters::observe(kernel)?,
            overlays: OverlayStates::default().all()?,
            peers: peers(),
            forwards,
            sees_bridged,
        })
    }

    /// Whether an address is the host's own.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback()
            || self.links.values().flat_map(|link| &link.addresses).any(|own| own.ip() == address)
    }

    /// Whether an address is a service's, or would be.
    pub(super) fn is_virtual(&self, address: IpAddr) -> bool {
        self.serving.iter().any(|element| match element {
            Serving::Vip(vip) => *vip == address,
            Serving::Range(range) => range.contains(address),
            _ => false,
        })
    }

    /// The first virtual address of a service.
    pub(super) fn vip_of(&self, name: &str) -> Option<IpAddr> {
        self.serving.iter().find_map(|element| match element {
            Serving::Service(at, _, _, of) if &**of == name && !at.address.is_unspecified() => {
                Some(at.address)
            }
            _ => None,
        })
    }

    /// The service at a frontend.
    pub(super) fn service_at(&self, frontend: &Frontend) -> Option<&str> {
        self.serving.iter().find_map(|element| match element {
            Serving::Service(at, _, _, name) if at == frontend => Some(&**name),
            _ => None,
        })
    }

    /// Where flows to a frontend go: each endpoint once.
    pub(super) fn endpoints_of(&self, frontend: &Frontend) -> Vec<Backend> {
        let of = |element: &Serving| match element {
            Serving::Endpoint(at, _, backend) if at == frontend => Some(*backend),
            _ => None,
        };
        let mut endpoints: Vec<Backend> = self.serving.iter().filter_map(of).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        endpoints
    }

    /// The element of a set with this key.
    pub(super) fn element(&self, set: SetId, key: &[Value]) -> Option<&Element> {
        self.elements.iter().find(|element| element.set == set && element.key == key)
    }

    /// The element of a set of prefixes that covers these addresses.
    pub(super) fn covering(&self, set: SetId, addresses: &[IpAddr]) -> Option<&Element> {
        let covers = |element: &&Element| {
            let mut pairs = element.key.iter().zip(addresses);
            pairs.all(|(value, address)| match value {
                Value::Prefix(prefix) => prefix.contains(*address),
                Value::Address(one) => one == address,
                _ => false,
            })
        };
        self.elements.iter().filter(|element| element.set == set).find(covers)
    }

    /// Whether packets of an overlay with this address of it pass by that link.
    pub(super) fn is_way(&self, link: &IfName, address: IpAddr) -> bool {
        let ways = self.elements.iter().filter(|way| way.set == SetId::Ways(Family::of(address)));
        ways.map(|way| &way.key[..]).any(|key| match key {
            [Value::Interface(way), Value::Prefix(prefix)] => way == link && prefix.contains(address),
            _ => false,
        })
    }

    /// The index of a link.
    pub(super) fn index(&self, link: &IfName) -> Option<u32> {
        Some(self.links.get(link)?.state.index)
    }

    /// The overlay that an address is of.
    pub(super) fn overlay_of(&self, address: IpAddr) -> Option<&OverlayState> {
        self.overlays.iter().find(|overlay| covers(&overlay.subnets, address))
    }
}

/// Whether one of the prefixes has the address.
pub(super) fn covers(prefixes: &[IpNetwork], address: IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(address))
}

/// The place of a family in an array of two.
pub(super) fn of(address: IpAddr) -> usize {
    match Family::of(address) {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

fn peers() -> Vec<OverlayView> {
    let is_there = run_dir().join(zeugma_api::SOCKET).exists();
    is_there.then(|| Question::get(PEERS).answer().ok()).flatten().unwrap_or_default()
}
