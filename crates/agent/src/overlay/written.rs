//! What is written down of overlays for the plugin: once the kernel has their routes, and not before.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use zeugma_journal::{Each, OverlayStates};
use zeugma_model::{Backend, IfName, Network, NetworkName, OverlayState};
use zeugma_overlay::{Desired, Overlay, Tunnel};

use super::mine::{self, Mine};

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

/// What the kernel did not take.
#[derive(Debug, Default)]
pub(super) struct Broken {
    /// Devices.
    pub(super) links: BTreeSet<IfName>,
    /// Subnets that have no unreachable route.
    pub(super) unguarded: BTreeSet<IpNetwork>,
}

/// Makes the files these; those of other networks go. One whose device is broken is not begun, as its containers would
/// reach nobody: that they get no address is told at once. Nor is one that is not guarded: what they send to hosts that are
/// not known yet would leave by the default route. Nothing is given out of a block that is not `kept`. Blocks. What does
/// not work, a line each.
pub(super) fn write(
    files: &OverlayStates,
    states: Vec<OverlayState>,
    broken: &Broken,
    kept: &Mine,
) -> Vec<String> {
    // One that cannot be read goes, too: as long as it is there, what it may ask for stays.
    let there = files.each().unwrap_or_default();
    let states: Vec<OverlayState> =
        states.into_iter().filter_map(|state| sure(state, &there, kept)).collect();
    let wanted: BTreeSet<&NetworkName> = states.iter().map(|state| &state.network).collect();
    let gone = there.iter().map(|(network, _)| network).filter(|network| !wanted.contains(network));
    let removed = gone.filter_map(|network| files.remove(network).err());
    let has_device = |state: &OverlayState| match &state.tunnel {
        Some(link) => !broken.links.contains(link),
        None => state.backend == Backend::HostGw,
    };
    let works = |state: &OverlayState| {
        has_device(state) && !state.subnets.iter().any(|subnet| broken.unguarded.contains(subnet))
    };
    let is_there = |state: &OverlayState| there.iter().any(|(network, _)| *network == state.network);
    let begun = states.iter().filter(|state| works(state) || is_there(state));
    let written = begun.filter_map(|state| files.write(state).err());
    removed.chain(written).map(|error| error.to_string()).collect()
}

/// Without new blocks that a start after a loss of power would not know of: another node could take them by then. None
/// when none is left.
fn sure(mut state: OverlayState, there: &[Each], kept: &Mine) -> Option<OverlayState> {
    let network = &state.network;
    let before =
        there.iter().filter(|(other, _)| other == network).find_map(|(_, read)| read.as_ref().ok()?.as_ref());
    let is_given_out = |block: &IpNetwork| before.is_some_and(|before| before.blocks.contains(block));
    state.blocks.retain(|block| mine::has(kept, network, block) || is_given_out(block));
    (!state.blocks.is_empty()).then_some(state)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(blocks: &[&str]) -> OverlayState {
        let state = json!({"network": "front", "backend": "vxlan", "subnets": ["10.1.0.0/16"], "blocks": blocks,
            "mtu": 1450, "bridge": "br-front", "tunnel": "vx-front", "masquerade": true});
        serde_json::from_value(state).unwrap()
    }

    fn kept(blocks: &[&str]) -> Mine {
        let blocks = blocks.iter().map(|block| block.parse().unwrap()).collect();
        Mine::from([("front".parse().unwrap(), blocks)])
    }

    #[test]
    fn nothing_is_given_out_of_a_block_before_it_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let (files, [one, two]) = (OverlayStates::at(root.path()), ["10.1.0.0/24", "10.1.1.0/24"]);
        let written = |blocks: &[&str], kept: &Mine| -> Vec<String> {
            assert_eq!(write(&files, vec![state(blocks)], &Broken::default(), kept), Vec::<String>::new());
            let blocks = files.all().unwrap().into_iter().flat_map(|state| state.blocks);
            blocks.map(|block| block.to_string()).collect()
        };
        assert_eq!(written(&[one], &Mine::new()), Vec::<String>::new());
        assert_eq!(written(&[one, two], &kept(&[one])), [one]);
        // It was given out of before the file was lost.
        assert_eq!(written(&[one, two], &Mine::new()), [one]);
        assert_eq!(written(&[one, two], &kept(&[one, two])), [one, two]);
        assert_eq!(written(&[], &kept(&[one, two])), Vec::<String>::new());
    }

    #[test]
    fn a_network_is_not_begun_without_its_device_or_guard_and_goes_on_once_it_is() {
        let root = tempfile::tempdir().unwrap();
        let files = OverlayStates::at(root.path());
        let (mut state, kept) = (state(&["10.1.0.0/24"]), kept(&["10.1.0.0/24"]));
        state.subnets.push("fd00:1::/56".parse().unwrap());
        let broken = |link: &str, subnet: &str| Broken {
            links: [link.parse().unwrap()].into(),
            unguarded: [subnet.parse().unwrap()].into(),
        };
        let written =
            |broken: Broken| (write(&files, vec![state.clone()], &broken, &kept), files.all().unwrap().len());
        assert_eq!(written(broken("vx-front", "10.2.0.0/16")), (Vec::new(), 0));
        assert_eq!(written(broken("vx-back", "fd00:1::/56")), (Vec::new(), 0));
        assert_eq!(written(broken("vx-back", "10.2.0.0/16")), (Vec::new(), 1));
        assert_eq!(written(broken("vx-front", "10.1.0.0/16")), (Vec::new(), 1));
    }
}
