//! Whether checksums arrive right at the other end of VXLAN devices: there are network cards that compute them wrong for
//! packets in a tunnel. Looked at when a device has its first peer, and from time to time, beside the director's turns.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use zeugma_kernel::overlay::{Checksums, probe_checksums};
use zeugma_model::IfName;
use zeugma_overlay::{Desired, Overlay, Path, Tunnel};

/// Before a device is looked at again: it may have been made anew since.
const AGAIN: Duration = Duration::from_secs(300);
/// The same, when nobody answered.
const SOON: Duration = Duration::from_secs(30);
/// Peers that are asked until one answers.
const PEERS: usize = 3;

/// When each device is due.
#[derive(Debug, Clone, Default)]
pub(super) struct Looks(Arc<Mutex<BTreeMap<IfName, Instant>>>);

impl Looks {
    /// Looks at the devices that are due.
    pub(super) fn begin(&self, desired: &Desired) {
        let now = Instant::now();
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (link, pairs) in desired.overlays.values().filter_map(asked) {
            if due.get(&link).is_none_or(|at| *at <= now) {
                due.insert(link.clone(), now + AGAIN);
                tokio::spawn(look(self.clone(), link, pairs));
            }
        }
    }
}

/// The device, and where a datagram goes from and to: pairs of this host's own address and a peer's.
fn asked(overlay: &Overlay) -> Option<(IfName, Vec<(IpAddr, IpAddr)>)> {
    let Some(Tunnel::Vxlan { link, .. }) = &overlay.tunnel else { return None };
    let tunnelled = overlay.peers.values().filter(|peer| matches!(peer.path, Path::Vxlan { .. }));
    let pair = |to: IpAddr| {
        let from = overlay.addresses.iter().map(|address| address.ip());
        from.into_iter().find(|from| from.is_ipv4() == to.is_ipv4()).map(|from| (from, to))
    };
    let first = tunnelled.filter_map(|peer| pair(peer.blocks.first()?.network()));
    let pairs: Vec<(IpAddr, IpAddr)> = first.take(PEERS).collect();
    (!pairs.is_empty()).then(|| (link.clone(), pairs))
}

async fn look(looks: Looks, link: IfName, pairs: Vec<(IpAddr, IpAddr)>) {
    for (from, to) in pairs {
        match probe_checksums(&link, from, to).await {
            Ok(Checksums::Right) => return,
            Ok(Checksums::Mended) => {
                tracing::warn!(
                    %link,
                    "the network card computes checksums of packets in the tunnel wrong: the kernel does it from now on"
                );
                return;
            }
            Ok(Checksums::Unknown) => {}
            Err(error) => tracing::debug!(%link, %error, "checksums are not looked at"),
        }
    }
    looks.0.lock().unwrap_or_else(PoisonError::into_inner).insert(link, Instant::now() + SOON);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use zeugma_overlay::Peer;

    fn overlay(path: Path) -> Overlay {
        let link = "vx-front".parse().unwrap();
        let (vni, local) = (4096.try_into().unwrap(), "192.0.2.1".parse().unwrap());
        let mac = "02:00:00:00:00:01".parse().unwrap();
        let peer = Peer { blocks: vec!["10.1.2.0/24".parse().unwrap()], path };
        Overlay {
            subnets: vec!["10.1.0.0/16".parse().unwrap()],
            blocks: vec!["10.1.1.0/24".parse().unwrap()],
            mtu: 1450,
            tunnel: Some(Tunnel::Vxlan { link, vni, port: 4789, mac, local, mtu: 1450 }),
            addresses: vec!["fd00::/128".parse().unwrap(), "10.1.1.0/32".parse().unwrap()],
            hosts: BTreeSet::new(),
            peers: [("b".parse().unwrap(), peer)].into(),
        }
    }

    #[test]
    fn peers_beyond_the_tunnel_are_asked_from_this_hosts_address_of_their_family() {
        let remote = "192.0.2.2".parse().unwrap();
        let tunnelled = overlay(Path::Vxlan { mac: "02:00:00:00:00:02".parse().unwrap(), remote });
        let pair = ("10.1.1.0".parse().unwrap(), "10.1.2.0".parse().unwrap());
        assert_eq!(asked(&tunnelled), Some(("vx-front".parse().unwrap(), vec![pair])));
        let direct = overlay(Path::Direct { via: remote, link: "eth0".parse().unwrap() });
        assert_eq!(asked(&direct), None);
    }
}
