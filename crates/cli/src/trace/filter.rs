//! The chains that only let pass or drop: who an overlay's addresses are, the administrator's rules, policies, and the
//! chains of other programs.

use std::net::IpAddr;

use zeugma_model::IfName;
use zeugma_plan::Family;
use zeugma_plan::nft::{SetId, Value};

use super::state::Around;
use super::walk::{Decided, Packet, Walk, dropped, on};
use crate::host::filters::{Administrator, Hook, Passing};

/// Where policies are looked at, and the chain before them.
const AT: &str = "inet zeugma forward";
const ADMIN: &str = "inet zeugma admin";

/// Chain `claimed`: who has an address of a tunnelled overlay comes by its ways.
pub(super) fn claimed<A: Around>(walk: &Walk<'_, A>, packet: &Packet) -> Decided<()> {
    let (set, source) = (SetId::Claimed(Family::of(packet.source)), packet.source);
    let element = walk.state.covering(set, &[source]);
    let (Some(iif), Some(element)) = (&packet.iif, element) else { return on(()) };
    if walk.state.is_way(iif, source) {
        return on(());
    }
    let by = format!(
        "inet zeugma claimed: {source} is of overlay {}, and comes in by {iif}, which is none of its ways",
        element.owner
    );
    let remedy =
        format!("the route back does not lead into the overlay (ip route get {source}): take it away");
    dropped(by, remedy)
}

/// Chain `sealed`: what is for an encrypted overlay leaves by its ways.
pub(super) fn sealed<A: Around>(walk: &Walk<'_, A>, packet: &Packet, out: &IfName) -> Decided<()> {
    let (set, to) = (SetId::Sealed(Family::of(packet.destination)), packet.destination);
    let Some(element) = walk.state.covering(set, &[to]).filter(|_| !walk.state.is_way(out, to)) else {
        return on(());
    };
    let by = format!(
        "inet zeugma sealed: overlay {} is encrypted, and {to} would leave in clear by {out}",
        element.owner
    );
    let remedy = format!("another route goes before the overlay's (ip route get {to}): take it away");
    dropped(by, remedy)
}

/// Chain `forward` of ours, then others'.
pub(super) fn forward<A: Around>(walk: &mut Walk<'_, A>, packet: &Packet, out: &IfName) -> Decided<()> {
    let Some(iif) = packet.iif.clone() else { return on(()) };
    let passing = passing(packet, Hook::Forward, iif.as_str(), out.as_str());
    let is_let_in = match walk.state.filters.administrator(&passing) {
        Administrator::Drops => {
            let remedy = format!("nft -a list chain {ADMIN} shows which; nft delete rule {ADMIN} handle …");
            return dropped(format!("{ADMIN}: a rule of the administrator"), remedy);
        }
        Administrator::Accepts => {
            walk.note(ADMIN, "accepted by a rule of the administrator");
            true
        }
        Administrator::Unclear => {
            let what =
                "has rules of the administrator that cannot be told beforehand: --live shows what they do";
            walk.note(ADMIN, what);
            false
        }
        Administrator::Passes => false,
    };
    if packet.is_translated && !is_let_in {
        walk.note(AT, "accepted: it came by a published port or a service");
    } else if !is_let_in && let Err(end) = across(walk, packet, &iif, out)? {
        return Ok(Err(end));
    }
    past_others(walk, &passing)
}

/// From one network to another: into overlays, and between bridges.
fn across<A: Around>(walk: &mut Walk<'_, A>, packet: &Packet, iif: &IfName, out: &IfName) -> Decided<()> {
    let [from, to] = [iif, out].map(|link| Value::Interface(link.clone()));
    let is_isolated =
        |link: &Value| walk.state.element(SetId::Isolated, std::slice::from_ref(link)).is_some();
    let (family, pair) = (Family::of(packet.destination), [packet.source, packet.destination]);
    let is_of = |set: fn(Family) -> SetId, of: &[IpAddr]| walk.state.covering(set(family), of).is_some();
    let is_to_overlay = is_of(SetId::Overlay, &pair[1..]);
    if is_to_overlay && !is_of(SetId::Reachable, &pair) && !is_of(SetId::Network, &pair) {
        let by =
            format!("inet zeugma overlay: {} is of an overlay that does not let {} in", pair[1], pair[0]);
        let remedy =
            "attach both to one network, or let the other one in: the overlay's option reachable_from";
        return dropped(by, remedy);
    }
    if is_to_overlay && is_of(SetId::Reachable, &pair) {
        walk.note("inet zeugma overlay", format!("accepted: reachable has {} . {}", pair[0], pair[1]));
    } else if let Some(element) = walk.state.element(SetId::SameBridge, &[from.clone(), to.clone()]) {
        walk.note(AT, format!("accepted: same_bridge has {iif} . {out} ({})", element.owner));
    } else if is_isolated(&from) && is_isolated(&to) {
        let by = format!("{AT}: isolated has both {iif} and {out}");
        let remedy = "their networks have an ingress policy: attach both containers to one network, or publish the port and use the host's address";
        return dropped(by, remedy);
    }
    on(())
}

/// The packet at one of others' chains.
pub(super) fn passing(packet: &Packet, hook: Hook, iif: &str, oif: &str) -> Passing {
    Passing {
        hook,
        iif: iif.into(),
        oif: oif.into(),
        source: packet.source,
        destination: packet.destination,
        port: packet.port,
        is_translated: packet.is_translated,
    }
}

/// Past the chains of other programs.
pub(super) fn past_others<A: Around>(walk: &Walk<'_, A>, passing: &Passing) -> Decided<()> {
    match walk.state.filters.that_drop(passing).first() {
        None => on(()),
        Some(chain) => dropped(chain, "let the packet pass in that chain; zeugma doctor says how"),
    }
}
