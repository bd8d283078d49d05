//! What is said of overlays and nodes over the API.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use zeugma_api::{NodeView, OverlayView, PeerView};
use zeugma_kernel::overlay::WireguardPeer;
use zeugma_model::{IfName, Network, NodeName, PublicKey};
use zeugma_overlay::{Desired, Overlay, Path, Peer, Tunnel};

use super::known::Known;
use super::probe::{Probed, Probes};
use super::wireguard::Seen;

/// All nodes.
pub(super) fn nodes(known: &Known, here: &NodeName) -> Vec<NodeView> {
    let view = |node: &zeugma_model::Node| {
        let is_here = node.name == *here;
        let is_heard = known.alive.as_ref().is_some_and(|alive| alive.contains(&node.name));
        NodeView { node: node.clone(), alive: is_here || is_heard, here: is_here }
    };
    known.nodes.values().map(view).collect()
}

/// All overlays of this host.
pub(super) fn overlays(
    known: &Known,
    desired: &Desired,
    seen: &BTreeMap<IfName, Seen>,
    probes: &Probes,
) -> Vec<OverlayView> {
    let all = desired.overlays.iter();
    let mut views: Vec<OverlayView> =
        all.filter_map(|(name, one)| overlay(known, known.networks.get(name)?, one, seen)).collect();
    for view in &mut views {
        let its = desired.problems.iter().filter(|(network, _)| *network == view.network);
        view.problems = its.map(|(_, told)| told.clone()).collect();
        let (network, mtu) = (view.network.clone(), view.mtu);
        for peer in &mut view.peers {
            let probed = probes.of(&network, &peer.node);
            (peer.mtu, peer.loss, peer.round_trip) = (probed.mtu, probed.loss, probed.round_trip);
            view.problems.extend(narrow(peer, probed, mtu));
        }
    }
    views
}

/// What does not pass on the way to a peer.
fn narrow(peer: &PeerView, probed: Probed, wanted: u32) -> Option<String> {
    let mtu = probed.mtu.filter(|mtu| *mtu < wanted)?;
    Some(format!(
        "packets to node {} pass up to {mtu} bytes, and containers send {wanted}: set the network's mtu to {mtu}, or mend the \
         underlay",
        peer.node
    ))
}

fn overlay(
    known: &Known,
    network: &Network,
    overlay: &Overlay,
    seen: &BTreeMap<IfName, Seen>,
) -> Option<OverlayView> {
    let link = overlay.tunnel.as_ref().map(|tunnel| match tunnel {
        Tunnel::Vxlan { link, .. } | Tunnel::Wireguard { link, .. } => link.clone(),
    });
    let seen = match &overlay.tunnel {
        Some(Tunnel::Wireguard { link, .. }) => seen.get(link),
        _ => None,
    };
    let alive = |node: &NodeName| known.alive.as_ref().map(|alive| alive.contains(node));
    let counted: BTreeMap<&PublicKey, &WireguardPeer> =
        seen.iter().flat_map(|seen| &seen.device.peers).map(|peer| (&peer.key, peer)).collect();
    let peer = |(node, peer): (&NodeName, &Peer)| self::peer(node, peer, alive(node), &counted);
    Some(OverlayView {
        network: network.name.clone(),
        backend: network.overlay()?.backend,
        wireguard: seen.map(|seen| seen.implementation.to_owned()),
        link,
        mtu: overlay.mtu,
        blocks: overlay.blocks.clone(),
        peers: overlay.peers.iter().map(peer).collect(),
        problems: Vec::new(),
    })
}

fn peer(
    node: &NodeName,
    peer: &Peer,
    alive: Option<bool>,
    counted: &BTreeMap<&PublicKey, &WireguardPeer>,
) -> PeerView {
    let (path, remote, counted) = match &peer.path {
        Path::Vxlan { remote, .. } => ("vxlan", *remote, None),
        Path::Wireguard { key, endpoint, .. } => ("wireguard", endpoint.ip(), counted.get(key).copied()),
        Path::Direct { via, .. } => ("direct", *via, None),
    };
    let seconds =
        |peer: &WireguardPeer| Some(peer.last_handshake?.duration_since(UNIX_EPOCH).ok()?.as_secs());
    PeerView {
        node: node.clone(),
        alive,
        blocks: peer.blocks.clone(),
        path: path.into(),
        // Where it was last heard of: it may have roamed.
        remote: Some(counted.and_then(|peer| peer.endpoint).map_or(remote, |endpoint| endpoint.ip())),
        mtu: None,
        last_handshake: counted.and_then(seconds),
        received: counted.map(|peer| peer.received),
        sent: counted.map(|peer| peer.sent),
        loss: None,
        round_trip: None,
    }
}
