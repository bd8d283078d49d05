//! The WireGuard devices that overlays need, with this node's keys. How a device comes to be so is wireguard.rs's.

use zeugma_kernel::overlay::{WireguardDevice, WireguardPeer};
use zeugma_overlay::{Desired, Overlay, Path, Peer, Tunnel};

use super::keys::PrivateKey;

/// Seconds between packets that keep the way open past whoever translates addresses, as WireGuard's makers advise; and
/// then the last handshake tells whether a host is there.
const KEEPALIVE: u16 = 25;

/// All of them.
pub(super) fn devices(desired: &Desired, key: PrivateKey) -> Vec<WireguardDevice> {
    desired.overlays.values().filter_map(|overlay| device(overlay, key)).collect()
}

fn device(overlay: &Overlay, key: PrivateKey) -> Option<WireguardDevice> {
    let Some(Tunnel::Wireguard { link, port, .. }) = &overlay.tunnel else { return None };
    let peers = overlay.peers.values().flat_map(peers).collect();
    Some(WireguardDevice { link: link.clone(), private_key: Some(key.0), port: *port, peers })
}

/// Its key with its addresses; the one that comes next with none yet, so that the change takes nothing but moving them.
fn peers(peer: &Peer) -> Vec<WireguardPeer> {
    let Path::Wireguard { key, next_key, endpoint } = &peer.path else { return Vec::new() };
    let of = |key, allowed: &[_], keepalive| WireguardPeer {
        key,
        endpoint: Some(*endpoint),
        allowed: allowed.to_vec(),
        keepalive,
        last_handshake: None,
        received: 0,
        sent: 0,
    };
    let mut peers = vec![of(*key, &peer.blocks, KEEPALIVE)];
    peers.extend(next_key.map(|next| of(next, &[], 0)));
    peers
}
