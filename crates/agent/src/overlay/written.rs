//! What is written down of overlays for the plugin: once the kernel has their routes, and not before.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use zeugma_journal::OverlayStates;
use zeugma_model::{Network, NetworkName, OverlayState};
use zeugma_overlay::{Desired, Overlay, Tunnel};

/// What the plugin works from, of every overlay that this host gives out addresses of.
pub(super) fn states(desired: &Desired, networks: &BTreeMap<NetworkName, Network>) -> Vec<OverlayState> {
    let all = desired.overlays.iter().filter(|(_, overlay)| !overlay.blocks.is_empty());
    all.filter_map(|(name, overlay)| state(networks.get(name)?, overlay, networks)).collect()
}

fn state(
    network: &Network,
    overlay: &Overlay,
    networks: &BTreeMap<NetworkName, Network>,
) -> Option<OverlayState> {
    let options = network.overlay()?;
    let others = options.reachable_from.iter().filter_map(|name| networks.get(name));
    let others = others.flat_map(|other| &other.subnets).map(|subnet| subnet.subnet);
    let hosts = overlay.hosts.iter().copied().map(IpNetwork::from);
    let reachable_from: BTreeSet<IpNetwork> = others.chain(hosts).collect();
    Some(OverlayState {
        network: network.name.clone(),
        backend: options.backend,
        subnets: overlay.subnets.clone(),
        blocks: overlay.blocks.clone(),
        mtu: overlay.mtu,
        bridge: network.bridge()?,
        tunnel: overlay.tunnel.as_ref().map(|tunnel| match tunnel {
            Tunnel::Vxlan { link, .. } | Tunnel::Wireguard { link, .. } => link.clone(),
        }),
        masquerade: options.masquerade,
        internal: network.internal,
        reachable_from: reachable_from.into_iter().collect(),
    })
}

/// Makes the files these; those of other networks go. Blocks. What does not work, a line each.
pub(super) fn write(files: &OverlayStates, states: &[OverlayState]) -> Vec<String> {
    let wanted: BTreeSet<&NetworkName> = states.iter().map(|state| &state.network).collect();
    // One that cannot be read goes, too: as long as it is there, what it may ask for stays.
    let there = files.each().unwrap_or_default();
    let gone = there.iter().map(|(network, _)| network).filter(|network| !wanted.contains(network));
    let removed = gone.filter_map(|network| files.remove(network).err());
    let written = states.iter().filter_map(|state| files.write(state).err());
    removed.chain(written).map(|error| error.to_string()).collect()
}
