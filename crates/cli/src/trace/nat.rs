//! What becomes of a packet's addresses: services first, then published ports, and at last masquerade.

use std::net::IpAddr;

use zeugma_model::IfName;
use zeugma_plan::Family;
use zeugma_plan::nft::services::Frontend;
use zeugma_plan::nft::{SetId, Value};

use super::state::Around;
use super::walk::{Decided, Packet, Walk, dropped, on};

/// How many endpoints are named.
const SHOWN: usize = 4;

/// A new destination, where one is for it.
pub(super) fn destination<A: Around>(walk: &mut Walk<'_, A>, packet: &mut Packet) -> Decided<()> {
    if walk.state.is_virtual(packet.destination) {
        return virtual_address(walk, packet);
    }
    if walk.state.is_own(packet.destination) && !served_port(walk, packet) {
        published(walk, packet);
    }
    on(())
}

/// Where a packet comes to the first of our chains.
fn hook(packet: &Packet) -> &'static str {
    if packet.iif.is_some() { "prerouting" } else { "output" }
}

fn virtual_address<A: Around>(walk: &mut Walk<'_, A>, packet: &mut Packet) -> Decided<()> {
    let family = Family::of(packet.destination);
    let chain = format!("inet zeugma_services {}, vip-{family}", hook(packet));
    let address = packet.destination;
    let Some((protocol, port)) = packet.port else {
        walk.note(chain, format!("{address} is virtual: the host answers echo requests for it"));
        packet.destination = packet.source;
        return Ok(Err(super::walk::End::Delivered { to: format!("the host, which answers for {address}") }));
    };
    let frontend = Frontend { address, protocol, port };
    match walk.state.service_at(&frontend).map(str::to_owned) {
        Some(service) => serve(walk, packet, &chain, &service, &frontend),
        None => {
            let remedy = "zeugma service ls shows which ports services have; zeugma service update adds one";
            dropped(format!("{chain}: no service has {address}:{port}/{protocol}"), remedy)
        }
    }
}

/// A service's published port; false where there is none.
fn served_port<A: Around>(walk: &mut Walk<'_, A>, packet: &mut Packet) -> bool {
    let Some((protocol, port)) = packet.port else { return false };
    let family = Family::of(packet.destination);
    let frontend = Frontend { address: family.unspecified(), protocol, port };
    let Some(service) = walk.state.service_at(&frontend).map(str::to_owned) else { return false };
    let chain = format!("inet zeugma_services {}, port-{family}", hook(packet));
    matches!(serve(walk, packet, &chain, &service, &frontend), Ok(Ok(())))
}

fn serve<A: Around>(
    walk: &mut Walk<'_, A>,
    packet: &mut Packet,
    chain: &str,
    service: &str,
    frontend: &Frontend,
) -> Decided<()> {
    let endpoints = walk.state.endpoints_of(frontend);
    let Some(first) = endpoints.first() else {
        let remedy = format!("zeugma service ps {service} says why none is ready");
        return dropped(format!("{chain}: service {service} has no endpoint that is ready"), remedy);
    };
    let mut shown: Vec<String> =
        endpoints.iter().take(SHOWN).map(|one| format!("{}:{}", one.address, one.port)).collect();
    if endpoints.len() > SHOWN {
        shown.push(format!("{} more", endpoints.len() - SHOWN));
    }
    let chance = if endpoints.len() > 1 { "; this trace goes on with the first" } else { "" };
    walk.note(chain, format!("service {service} → one of {}{chance}", shown.join(", ")));
    packet.destination = first.address;
    packet.port = packet.port.map(|(protocol, _)| (protocol, first.port));
    (packet.is_translated, packet.is_served) = (true, true);
    on(())
}

fn published<A: Around>(walk: &mut Walk<'_, A>, packet: &mut Packet) {
    let Some((protocol, port)) = packet.port else { return };
    let family = Family::of(packet.destination);
    let at_any = [Value::Protocol(protocol), Value::Port(port)];
    let at_one = [&[Value::Address(packet.destination)], &at_any[..]].concat();
    let element = walk.state.element(SetId::Published(family), &at_one);
    let element = element.or_else(|| walk.state.element(SetId::PublishedAny(family), &at_any));
    let Some(element) = element.cloned() else { return };
    let [Value::Address(address), Value::Port(to)] = element.data[..] else { return };
    let chain = format!("inet zeugma {}, published", hook(packet));
    let set = element.set.name();
    walk.note(chain, format!("{set} has port {port}/{protocol} → {address}:{to} ({})", element.owner));
    packet.destination = address;
    packet.port = Some((protocol, to));
    packet.is_translated = true;
}

/// A new source, where one is for it. `source` is what the way gives to packets without one.
pub(super) fn source<A: Around>(
    walk: &mut Walk<'_, A>,
    packet: &Packet,
    out: &IfName,
    source: Option<IpAddr>,
) {
    let family = Family::of(packet.destination);
    let pair = [packet.source, packet.destination];
    let own = || {
        let link = walk.state.links.get(out)?;
        link.addresses.iter().map(|own| own.ip()).find(|own| own.is_ipv4() == packet.source.is_ipv4())
    };
    let source = source.or_else(own).map_or("the host's address".into(), |own| format!("from {own}"));
    let covered = |set: SetId, addresses: &[IpAddr]| {
        walk.state.covering(set, addresses).map(|element| (set.name(), element.owner.clone()))
    };
    let (found, chain) = if packet.is_served {
        let is_own = packet.source == packet.destination;
        (
            is_own.then(|| ("hairpin".into(), "a client that is its own endpoint".into())),
            "inet zeugma_services postrouting",
        )
    } else if packet.is_translated {
        let hairpin = covered(SetId::Hairpin(family), &pair);
        (
            hairpin.or_else(|| covered(SetId::MasqueradeAll(family), &pair[1..])),
            "inet zeugma postrouting, hairpin",
        )
    } else if covered(SetId::Network(family), &pair).is_some() || packet.destination.is_multicast() {
        (None, "")
    } else {
        (covered(SetId::Masquerade(family), &pair[..1]), "inet zeugma postrouting")
    };
    if let Some((set, owner)) = found {
        walk.note(chain, format!("masqueraded: it goes on {source} ({set}, {owner})"));
    }
}
