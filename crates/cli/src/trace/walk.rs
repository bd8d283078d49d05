//! The way of one packet over this host, decided as its kernel would: pure but for what [`Around`] is asked.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use serde::Serialize;
use zeugma_kernel::{Leaving, Way};
use zeugma_model::{IfName, Protocol};

use super::state::{Around, State, of};
use super::target::{Place, at};
use super::{filter, nat};
use crate::host::Attached;
use crate::host::filters::Hook;

/// Something that a packet meets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    /// A container, a link, a chain, a route.
    pub(super) at: String,
    /// What becomes of the packet there.
    pub(super) what: String,
}

/// What becomes of it in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub(super) enum End {
    /// It arrives.
    Delivered {
        /// Where.
        to: String,
    },
    /// It does not.
    Dropped {
        /// Who drops or refuses it.
        by: String,
        /// What to do about it.
        remedy: String,
    },
}

/// The packet as it is now.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// None: an echo request.
    pub(super) port: Option<(Protocol, u16)>,
    /// The link that it came in by; none: the host sent it.
    pub(super) iif: Option<IfName>,
    /// Whether its destination was translated, and by a service.
    pub(super) is_translated: bool,
    pub(super) is_served: bool,
}

/// A walk so far.
pub(super) struct Walk<'a, A> {
    pub(super) state: &'a State,
    pub(super) around: &'a mut A,
    pub(super) steps: Vec<Step>,
}

/// What a step decides: go on, or the end.
pub(super) type Decided<T> = Result<std::result::Result<T, End>>;

/// Goes on.
pub(super) fn on<T>(value: T) -> Decided<T> {
    Ok(Ok(value))
}

/// The end.
pub(super) fn dropped<T>(by: impl Into<String>, remedy: impl Into<String>) -> Decided<T> {
    Ok(Err(End::Dropped { by: by.into(), remedy: remedy.into() }))
}

macro_rules! or_end {
    ($decided:expr) => {
        match $decided? {
            Ok(value) => value,
            Err(end) => return Ok(end),
        }
    };
}

impl<'a, A: Around> Walk<'a, A> {
    pub(super) fn new(state: &'a State, around: &'a mut A) -> Self {
        Self { state, around, steps: Vec::new() }
    }

    pub(super) fn note(&mut self, at: impl Into<String>, what: impl Into<String>) {
        self.steps.push(Step { at: at.into(), what: what.into() });
    }

    /// From its source to its end.
    pub(super) fn through(&mut self, source: Place<'_>, packet: Packet) -> Result<End> {
        let mut packet = packet;
        match source {
            Place::Container(one) => {
                if let Some(end) = self.out_of(one, &mut packet)? {
                    return Ok(end);
                }
            }
            Place::Host(_) => self.note("the host", "sends it itself"),
            Place::Service(_) | Place::Elsewhere(_) => {
                let leaving = Leaving { to: packet.source, from: None, by: None };
                match self.around.way(None, &leaving)? {
                    Way::Out { link, .. } => {
                        self.note(link.to_string(), format!("{} comes in", packet.source));
                        packet.iif = Some(link);
                    }
                    Way::Here | Way::Nowhere(_) => {
                        let by = format!("reverse path: this host has no route to {}", packet.source);
                        return Ok(End::Dropped { by, remedy: "add a route to it".into() });
                    }
                }
            }
        }
        self.over_the_host(packet)
    }

    /// The container's own routes, and what is not the host's: none when it gets to the host.
    fn out_of(&mut self, one: &Attached, packet: &mut Packet) -> Result<Option<End>> {
        let leaving = Leaving { to: packet.destination, from: None, by: None };
        let name = one.shown();
        let (link, via) = match self.around.way(Some(one), &leaving)? {
            Way::Here => {
                self.note(name.clone(), "is its own destination");
                return Ok(Some(End::Delivered { to: name }));
            }
            Way::Nowhere(why) => {
                let by = format!("routes of {name}: {why}");
                let remedy = "its networks are internal, or it has no interface for that family: connect it to a network that leads \
                              there (zeugma network connect)";
                return Ok(Some(End::Dropped { by, remedy: remedy.into() }));
            }
            Way::Out { link, via, .. } => (link, via),
        };
        let hop = via.map_or("on link".into(), |via| format!("to gateway {via}"));
        self.note(name, format!("leaves by {link} {hop}, from {}", packet.source));
        let own = self
            .state
            .attached
            .iter()
            .find(|other| other.id.container == one.id.container && other.id.ifname == link);
        let own = own.unwrap_or(one);
        let Some(bridge) = &own.bridge else {
            let veth = own.id.host_veth();
            if !self.state.links.contains_key(&veth) {
                self.note(
                    link.to_string(),
                    "shares a wire of the host: the packet does not meet the host's own rules",
                );
                return Ok(Some(End::Delivered { to: format!("the wire below {link}") }));
            }
            packet.iif = Some(veth);
            return Ok(None);
        };
        if !self.state.links.contains_key(bridge) {
            let by = format!("{bridge}: the bridge is gone");
            return Ok(Some(End::Dropped { by, remedy: "zeugma repair".into() }));
        }
        packet.iif = Some(bridge.clone());
        if via.is_none() && !self.state.is_own(packet.destination) {
            return self.on_the_bridge(own, bridge, packet).map(Some);
        }
        Ok(None)
    }

    /// Between two ports of one bridge.
    fn on_the_bridge(&mut self, one: &Attached, bridge: &IfName, packet: &Packet) -> Result<End> {
        let Place::Container(other) = at(self.state, packet.destination) else {
            let by = format!("bridge {bridge}: nobody on this host has {}", packet.destination);
            let remedy = "zeugma ps lists who has which address; an address of another host needs an overlay";
            return Ok(End::Dropped { by, remedy: remedy.into() });
        };
        let ports = [one, other].map(|end| end.id.host_veth());
        self.note(format!("bridge {bridge}"), format!("from port {} to port {}", ports[0], ports[1]));
        let is_isolated = |port: &IfName| {
            let flags = self.state.links.get(port).and_then(|link| link.state.port.clone());
            flags.is_some_and(|flags| flags.isolated == Some(true))
        };
        if ports.iter().all(is_isolated) {
            let remedy = "the network has ingressPolicy isolated, portIsolation or icc=false: attach both to a network without";
            return Ok(End::Dropped {
                by: format!("bridge {bridge}: both ports are isolated"),
                remedy: remedy.into(),
            });
        }
        if self.state.sees_bridged[of(packet.destination)] {
            self.note("br_netfilter", "filters of IP see the frame, too");
            or_end!(filter::forward(self, packet, bridge));
        }
        self.arrive(other, packet)
    }

    /// From where it comes in or is sent, to where it leaves.
    fn over_the_host(&mut self, packet: Packet) -> Result<End> {
        let mut packet = packet;
        or_end!(filter::claimed(self, &packet));
        or_end!(nat::destination(self, &mut packet));
        let by = packet.iif.as_ref().and_then(|link| self.state.index(link));
        let from = packet.iif.is_some().then_some(packet.source);
        match self.around.way(None, &Leaving { to: packet.destination, from, by })? {
            Way::Here => self.input(&packet),
            Way::Nowhere(why) => Ok(self.nowhere(&packet, why)),
            Way::Out { link, via, source, .. } => {
                let hop = via.map_or("on link".into(), |via| format!("via {via}"));
                self.note("route", format!("{} by {link}, {hop}", packet.destination));
                if packet.iif.is_some() {
                    if !self.state.forwards[of(packet.destination)] {
                        return Ok(does_not_forward(packet.destination));
                    }
                    or_end!(filter::forward(self, &packet, &link));
                }
                nat::source(self, &packet, &link, source);
                or_end!(filter::sealed(self, &packet, &link));
                self.leave(&packet, &link, via)
            }
        }
    }

    fn nowhere(&mut self, packet: &Packet, why: &str) -> End {
        let to = packet.destination;
        let overlay = self.state.overlay_of(to).map(|overlay| overlay.network.clone());
        let remedy = match &overlay {
            Some(network) => format!(
                "no node has that address of overlay {network}, or its node is not known here: zeugma peers"
            ),
            None => format!("add a route: ip route add {to} …"),
        };
        End::Dropped { by: format!("route to {to}: {why}"), remedy }
    }

    /// To the host itself.
    fn input(&mut self, packet: &Packet) -> Result<End> {
        let iif = packet.iif.as_ref().map_or("lo".into(), ToString::to_string);
        let passing = filter::passing(packet, Hook::Input, &iif, "");
        if packet.iif.is_some() {
            or_end!(filter::past_others(self, &passing));
        }
        let Some((protocol, port)) = packet.port else {
            return Ok(End::Delivered { to: "the host, which answers an echo request".into() });
        };
        let to = SocketAddr::from((packet.destination, port));
        match self.around.listener(None, protocol, to) {
            Some(by) => Ok(End::Delivered { to: format!("the host: {by} listens at {to}/{protocol}") }),
            None => {
                let remedy = format!(
                    "publish a container's port there (-p {port}:…), or start the program that is to listen"
                );
                Ok(End::Dropped { by: format!("the host: nobody listens at {to}/{protocol}"), remedy })
            }
        }
    }

    /// Out by a link, and what is at its end.
    fn leave(&mut self, packet: &Packet, link: &IfName, via: Option<IpAddr>) -> Result<End> {
        if let Some(overlay) =
            self.state.overlays.iter().find(|overlay| overlay.tunnel.as_ref() == Some(link))
        {
            return Ok(self.by_tunnel(packet, link, overlay.network.as_str()));
        }
        let on_it = |one: &&Attached| {
            one.is_alive
                && one.addresses.iter().any(|address| address.ip() == packet.destination)
                && (one.bridge.as_ref() == Some(link) || one.id.host_veth() == *link)
        };
        if let Some(one) = self.state.attached.iter().find(on_it) {
            self.note(link.to_string(), format!("to port {} of {}", one.id.host_veth(), one.shown()));
            return self.arrive(one, packet);
        }
        let kind = self.state.links.get(link).map_or("", |link| link.state.kind.as_str());
        if kind == "bridge"
            && via.is_none()
            && self.state.attached.iter().any(|one| one.bridge.as_ref() == Some(link))
        {
            let by = format!("bridge {link}: no container of this host has {}", packet.destination);
            return Ok(End::Dropped { by, remedy: "zeugma ps lists who has which address".into() });
        }
        let hop = via.map_or(String::new(), |via| format!(", next hop {via}"));
        Ok(End::Delivered { to: format!("the wire of {link}{hop}") })
    }

    fn by_tunnel(&mut self, packet: &Packet, link: &IfName, network: &str) -> End {
        let views = self.state.peers.iter().filter(|view| view.network.as_str() == network);
        let peer = views
            .flat_map(|view| &view.peers)
            .find(|peer| super::state::covers(&peer.blocks, packet.destination));
        let Some(peer) = peer else {
            self.note(link.to_string(), format!("into the tunnel of overlay {network}"));
            return End::Delivered { to: format!("another host of overlay {network}: trace it there") };
        };
        let remote = peer.remote.map_or(String::new(), |remote| format!(" at {remote}"));
        self.note(
            link.to_string(),
            format!("into the tunnel of overlay {network} to node {}{remote}, {}", peer.node, peer.path),
        );
        if peer.alive == Some(false) || peer.loss == Some(100) {
            let by = format!("tunnel {link}: node {} does not answer", peer.node);
            return End::Dropped { by, remedy: "zeugma peers shows since when; look at that host".into() };
        }
        End::Delivered { to: format!("node {}{remote}: trace it there", peer.node) }
    }

    /// In the container.
    fn arrive(&mut self, one: &Attached, packet: &Packet) -> Result<End> {
        let name = one.shown();
        let Some((protocol, port)) = packet.port else {
            return Ok(End::Delivered { to: format!("{name}, which answers an echo request") });
        };
        let to = SocketAddr::from((packet.destination, port));
        match self.around.listener(Some(one), protocol, to) {
            Some(_) => Ok(End::Delivered { to: format!("{name} at {to}/{protocol}") }),
            None => {
                let remedy = "start the program, and let it listen at 0.0.0.0 or [::], not at 127.0.0.1";
                Ok(End::Dropped {
                    by: format!("{name}: nobody listens at {to}/{protocol}"),
                    remedy: remedy.into(),
                })
            }
        }
    }
}

fn does_not_forward(to: IpAddr) -> End {
    let path = if to.is_ipv4() { "net.ipv4.ip_forward" } else { "net.ipv6.conf.all.forwarding" };
    End::Dropped { by: format!("{path} = 0"), remedy: format!("sysctl -w {path}=1") }
}

/// The packet that a source sends to a destination, before anything happens to it.
///
/// # Errors
/// When one of them has no address of the other's family.
pub(super) fn packet(
    state: &State,
    around: &mut impl Around,
    source: Place<'_>,
    destination: Place<'_>,
    port: Option<(Protocol, u16)>,
) -> Result<Packet> {
    let to = addressed(state, source, destination)?;
    let from = match source {
        Place::Container(one) => {
            let of = |other: &&Attached| other.id.container == one.id.container;
            let way = around.way(Some(one), &Leaving { to, from: None, by: None })?;
            let by = match &way {
                Way::Out { link, .. } => {
                    state.attached.iter().filter(of).find(|other| other.id.ifname == *link)
                }
                Way::Here | Way::Nowhere(_) => None,
            };
            by.unwrap_or(one).address_like(to).or(Some(to).filter(|_| way == Way::Here))
        }
        Place::Host(Some(address)) | Place::Service(address) | Place::Elsewhere(address) => Some(address),
        Place::Host(None) => match around.way(None, &Leaving { to, from: None, by: None })? {
            Way::Out { source, .. } => source.or(Some(to)),
            Way::Here | Way::Nowhere(_) => Some(to),
        },
    };
    let from = from.filter(|from| from.is_ipv4() == to.is_ipv4());
    let source = from.with_context(|| format!("the source has no address to send to {to} from"))?;
    Ok(Packet { source, destination: to, port, iif: None, is_translated: false, is_served: false })
}

/// The address that is sent to: of a container, one that it shares a network with the source by.
fn addressed(state: &State, source: Place<'_>, destination: Place<'_>) -> Result<IpAddr> {
    match destination {
        Place::Service(address) | Place::Elsewhere(address) | Place::Host(Some(address)) => Ok(address),
        Place::Container(one) => {
            let all = || state.attached.iter().filter(|other| other.id.container == one.id.container);
            let shared = |other: &&Attached| match source {
                Place::Container(from) => state.attached.iter().any(|mine| {
                    mine.id.container == from.id.container && mine.id.network == other.id.network
                }),
                _ => false,
            };
            let chosen = all().find(shared).unwrap_or(one);
            let address = chosen.addresses.first().map(|address| address.ip());
            address.with_context(|| format!("{} has no address", chosen.shown()))
        }
        Place::Host(None) => {
            let gateway = match source {
                Place::Container(one) => one.gateways.first().copied(),
                _ => None,
            };
            let own = || {
                let addresses = state.links.values().flat_map(|link| &link.addresses).map(|own| own.ip());
                addresses.into_iter().find(|address| !address.is_loopback())
            };
            gateway.or_else(own).context("this host has no address")
        }
    }
}
