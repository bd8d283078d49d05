//! Peers of a WireGuard device: what the kernel is told of them, and what it tells.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ipnetwork::IpNetwork;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute,
    WireguardPeer as Message, WireguardPeerAttribute as Attribute, WireguardPeerFlags,
};
use zeugma_model::{IfName, PublicKey};

use super::{WireguardDevice, WireguardPeer};

/// Addresses in one message: their attribute has 16 bits for its length.
const MANY: usize = 256;
/// Keys are not used longer than that (`REJECT_AFTER_TIME`): a peer that was not heard of since has no session to lose.
const SESSION: Duration = Duration::from_secs(180);

/// What is told of peers so that they are what they are to be. Those that are there keep their sessions, and the
/// addresses that they were heard of at, unless they are to be found elsewhere now.
pub(super) fn changes(
    wanted: &WireguardDevice,
    now: &WireguardDevice,
    told: &BTreeMap<(IfName, PublicKey), SocketAddr>,
    time: SystemTime,
) -> Vec<Message> {
    let there: BTreeMap<PublicKey, &WireguardPeer> = now.peers.iter().map(|peer| (peer.key, peer)).collect();
    let keys: BTreeSet<PublicKey> = wanted.peers.iter().map(|peer| peer.key).collect();
    let gone = there.keys().filter(|key| !keys.contains(key));
    let mut changes: Vec<Message> = gone.map(|key| removed(*key)).collect();
    for peer in &wanted.peers {
        let Some(seen) = there.get(&peer.key) else {
            let mut attributes = vec![Attribute::PublicKey(peer.key.0)];
            attributes.extend(peer.endpoint.map(Attribute::Endpoint));
            attributes.push(Attribute::PersistentKeepalive(peer.keepalive));
            changes.extend(with_allowed(attributes, peer));
            continue;
        };
        let before = told.get(&(wanted.link.clone(), peer.key));
        let mut attributes = Vec::new();
        attributes.extend(moved(peer, seen, before, time).map(Attribute::Endpoint));
        let keepalive = Some(peer.keepalive).filter(|keepalive| seen.keepalive != *keepalive);
        attributes.extend(keepalive.map(Attribute::PersistentKeepalive));
        let is_other = sorted(&peer.allowed) != sorted(&seen.allowed);
        if is_other || !attributes.is_empty() {
            attributes.insert(0, Attribute::PublicKey(peer.key.0));
            match is_other {
                true => changes.extend(with_allowed(attributes, peer)),
                false => changes.push(Message(attributes)),
            }
        }
    }
    changes
}

/// Where the peers were to be found when that was last told, now that `changes` are. One that is heard of elsewhere, and
/// that nobody remembers to have told of, is not among them, so that it is sought as wanted when it falls silent.
pub(super) fn told_with(
    wanted: &WireguardDevice,
    now: &WireguardDevice,
    changes: &[Message],
    before: &BTreeMap<(IfName, PublicKey), SocketAddr>,
) -> BTreeMap<(IfName, PublicKey), SocketAddr> {
    let said = changes.iter().filter_map(peer).map(|peer| (peer.key, peer.endpoint));
    let stands = now.peers.iter().map(|peer| (peer.key, peer.endpoint));
    let remembered = before.iter().filter(|((link, _), _)| *link == wanted.link);
    let remembered = remembered.map(|((_, key), endpoint)| (*key, Some(*endpoint)));
    let known: BTreeSet<_> = said.chain(stands).chain(remembered).collect();
    let told = wanted.peers.iter().filter(|peer| known.contains(&(peer.key, peer.endpoint)));
    told.filter_map(|peer| Some(((wanted.link.clone(), peer.key), peer.endpoint?))).collect()
}

/// Takes the keepalives of those that stay away, also in `now`, so that they are given anew: with that the kernel sends a
/// packet at once, which begins a handshake. A peer that wanted one while our key was still the old one asks again only
/// after five seconds (`REKEY_TIMEOUT`).
pub(super) fn silenced(wanted: &WireguardDevice, now: &mut WireguardDevice) -> Vec<Message> {
    let keys: BTreeSet<PublicKey> =
        wanted.peers.iter().filter(|peer| peer.keepalive > 0).map(|peer| peer.key).collect();
    let stay = now.peers.iter_mut().filter(|peer| peer.keepalive > 0 && keys.contains(&peer.key));
    let quiet = |peer: &mut WireguardPeer| {
        peer.keepalive = 0;
        let flags = Attribute::Flags(WireguardPeerFlags::UpdateOnly);
        Message(vec![Attribute::PublicKey(peer.key.0), flags, Attribute::PersistentKeepalive(0)])
    };
    stay.map(quiet).collect()
}

/// Where the peer is to be sought from now on, if elsewhere.
fn moved(
    peer: &WireguardPeer,
    seen: &WireguardPeer,
    before: Option<&SocketAddr>,
    time: SystemTime,
) -> Option<SocketAddr> {
    let wanted = peer.endpoint.filter(|wanted| seen.endpoint != Some(*wanted))?;
    let is_new = before.is_some_and(|before| *before != wanted);
    let age = seen.last_handshake.map(|last| time.duration_since(last).unwrap_or_default());
    let is_silent = age.is_none_or(|age| age > SESSION);
    (is_new || is_silent).then_some(wanted)
}

fn removed(key: PublicKey) -> Message {
    Message(vec![Attribute::PublicKey(key.0), Attribute::Flags(WireguardPeerFlags::RemoveMe)])
}

/// The first part says that its addresses are all that there are, the others add to them.
fn with_allowed(attributes: Vec<Attribute>, peer: &WireguardPeer) -> impl Iterator<Item = Message> {
    let (first, rest) = peer.allowed.split_at(peer.allowed.len().min(MANY));
    let mut whole = attributes;
    whole.push(Attribute::Flags(WireguardPeerFlags::ReplaceAllowedIps));
    whole.push(Attribute::AllowedIps(first.iter().copied().map(allowed).collect()));
    let key = peer.key.0;
    let more = rest.chunks(MANY).map(move |part| {
        Message(vec![
            Attribute::PublicKey(key),
            Attribute::Flags(WireguardPeerFlags::UpdateOnly),
            Attribute::AllowedIps(part.iter().copied().map(allowed).collect()),
        ])
    });
    std::iter::once(Message(whole)).chain(more)
}

fn allowed(network: IpNetwork) -> WireguardAllowedIp {
    let family = match network {
        IpNetwork::V4(_) => WireguardAddressFamily::Ipv4,
        IpNetwork::V6(_) => WireguardAddressFamily::Ipv6,
    };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(network.network()),
        WireguardAllowedIpAttr::Cidr(network.prefix()),
    ])
}

fn sorted(networks: &[IpNetwork]) -> BTreeSet<IpNetwork> {
    networks.iter().filter_map(|one| IpNetwork::new(one.network(), one.prefix()).ok()).collect()
}

/// A device out of the messages that tell of it: a peer with many addresses is told of in several.
pub(super) fn gathered(
    link: IfName,
    attributes: impl Iterator<Item = WireguardAttribute>,
) -> WireguardDevice {
    let mut device = WireguardDevice { link, private_key: None, port: 0, peers: Vec::new() };
    for attribute in attributes {
        match attribute {
            // One that has none is told of as zeroes.
            WireguardAttribute::PrivateKey(key) => {
                device.private_key = Some(key).filter(|key| *key != [0; 32])
            }
            WireguardAttribute::ListenPort(port) => device.port = port,
            WireguardAttribute::Peers(peers) => {
                peers.iter().filter_map(peer).for_each(|peer| take(&mut device, peer))
            }
            _ => {}
        }
    }
    device
}

fn take(device: &mut WireguardDevice, peer: WireguardPeer) {
    match device.peers.last_mut().filter(|last| last.key == peer.key) {
        Some(last) => last.allowed.extend(peer.allowed),
        None => device.peers.push(peer),
    }
}

fn peer(message: &Message) -> Option<WireguardPeer> {
    let key = message.0.iter().find_map(|attribute| match attribute {
        Attribute::PublicKey(key) => Some(PublicKey(*key)),
        _ => None,
    });
    let mut peer = WireguardPeer {
        key: key?,
        endpoint: None,
        allowed: Vec::new(),
        keepalive: 0,
        last_handshake: None,
        received: 0,
        sent: 0,
    };
    for attribute in &message.0 {
        match attribute {
            Attribute::Endpoint(endpoint) => peer.endpoint = Some(*endpoint),
            Attribute::PersistentKeepalive(seconds) => peer.keepalive = *seconds,
            Attribute::RxBytes(bytes) => peer.received = *bytes,
            Attribute::TxBytes(bytes) => peer.sent = *bytes,
            Attribute::LastHandshake(time) => {
                let since = u64::try_from(time.seconds).ok().filter(|seconds| *seconds > 0);
                let since = since.map(|seconds| {
                    Duration::new(seconds, u32::try_from(time.nano_seconds).unwrap_or_default())
                });
                peer.last_handshake = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
            }
            Attribute::AllowedIps(all) => peer.allowed.extend(all.iter().filter_map(network)),
            _ => {}
        }
    }
    Some(peer)
}

fn network(allowed: &WireguardAllowedIp) -> Option<IpNetwork> {
    let address = allowed.0.iter().find_map(|attribute| match attribute {
        WireguardAllowedIpAttr::IpAddr(address) => Some(*address),
        _ => None,
    });
    let length = allowed.0.iter().find_map(|attribute| match attribute {
        WireguardAllowedIpAttr::Cidr(length) => Some(*length),
        _ => None,
    });
    IpNetwork::new(address?, length?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    fn peer_of(number: u8, endpoint: &str, allowed: &[&str]) -> WireguardPeer {
        WireguardPeer {
            key: key(number),
            endpoint: Some(endpoint.parse().unwrap()),
            allowed: allowed.iter().map(|one| one.parse().unwrap()).collect(),
            keepalive: 25,
            last_handshake: None,
            received: 0,
            sent: 0,
        }
    }

    fn device(peers: Vec<WireguardPeer>) -> WireguardDevice {
        WireguardDevice { link: "wg-net".parse().unwrap(), private_key: None, port: 51820, peers }
    }

    /// What the kernel would have.
    fn after(now: WireguardDevice, changes: &[Message]) -> WireguardDevice {
        let mut peers: BTreeMap<PublicKey, WireguardPeer> =
            now.peers.iter().map(|peer| (peer.key, peer.clone())).collect();
        for change in changes {
            let told = peer(change).unwrap();
            let flags = change.0.iter().find_map(|attribute| match attribute {
                Attribute::Flags(flags) => Some(*flags),
                _ => None,
            });
            match flags {
                Some(WireguardPeerFlags::RemoveMe) => drop(peers.remove(&told.key)),
                Some(WireguardPeerFlags::UpdateOnly) => {
                    peers.get_mut(&told.key).unwrap().allowed.extend(told.allowed);
                }
                _ => {
                    let entry = peers.entry(told.key).or_insert_with(|| told.clone());
                    entry.endpoint = told.endpoint.or(entry.endpoint);
                    if flags.is_some() {
                        entry.allowed = told.allowed;
                    }
                }
            }
        }
        WireguardDevice { peers: peers.into_values().collect(), ..now }
    }

    #[test]
    fn peers_become_what_they_are_to_be_in_messages_of_limited_size() {
        let many: Vec<String> = (0..700).map(|at| format!("10.{}.{}.0/24", at / 256, at % 256)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let now = device(vec![
            peer_of(1, "192.0.2.1:1", &["10.1.0.0/24"]),
            peer_of(2, "192.0.2.2:1", &["10.2.0.0/24"]),
        ]);
        let wanted = device(vec![
            peer_of(2, "192.0.2.2:1", &["10.2.0.0/24", "fd00::/64"]),
            peer_of(3, "[::1]:1", &many),
        ]);
        let changes = changes(&wanted, &now, &BTreeMap::new(), SystemTime::now());
        assert_eq!(changes.len(), 5);
        let is_small = |change: &Message| netlink_packet_core::Nla::value_len(change) < 1 << 16;
        assert!(changes.iter().all(is_small));
        assert_eq!(after(now, &changes), wanted);
    }

    #[test]
    fn with_a_new_key_every_peer_that_stays_is_spoken_to_at_once() {
        let wanted = device(vec![peer_of(1, "192.0.2.1:1", &[]), peer_of(3, "192.0.2.3:1", &[])]);
        let mut now = device(vec![peer_of(1, "192.0.2.1:1", &[]), peer_of(2, "192.0.2.2:1", &[])]);
        let told = |changes: &[Message]| -> Vec<(u8, u16)> {
            changes.iter().filter_map(peer).map(|peer| (peer.key.0[0], peer.keepalive)).collect()
        };
        assert_eq!(told(&silenced(&wanted, &mut now)), [(1, 0)]);
        let changes = changes(&wanted, &now, &BTreeMap::new(), SystemTime::now());
        assert_eq!(told(&changes), [(2, 0), (1, 25), (3, 25)]);
    }

    #[test]
    fn a_peer_that_roamed_stays_where_it_was_heard_of_until_it_is_to_be_elsewhere() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let check = |told: Option<&str>, age: Option<u64>, expected: bool| {
            let wanted = device(vec![peer_of(1, "192.0.2.1:1", &[])]);
            let mut now = device(vec![peer_of(1, "203.0.113.9:9", &[])]);
            now.peers[0].last_handshake = age.map(|age| time - Duration::from_secs(age));
            let told = told.map(|told| ((wanted.link.clone(), key(1)), told.parse().unwrap()));
            let changes = changes(&wanted, &now, &told.into_iter().collect(), time);
            assert_eq!(!changes.is_empty(), expected, "{changes:?}");
        };
        check(Some("192.0.2.1:1"), Some(10), false);
        check(Some("192.0.2.99:1"), Some(10), true);
        check(None, Some(10), false);
        check(None, Some(500), true);
        check(None, None, true);
    }

    #[test]
    fn what_was_not_told_is_not_remembered_as_told() {
        let wanted = device(vec![peer_of(1, "192.0.2.1:1", &[])]);
        let mut now = device(vec![peer_of(1, "203.0.113.9:9", &[])]);
        now.peers[0].last_handshake = Some(SystemTime::now());
        let nobody = BTreeMap::new();
        let told = |changes: &[Message], before| told_with(&wanted, &now, changes, before);
        assert_eq!(told(&[], &nobody), nobody);
        let silent = SystemTime::now() + 2 * SESSION;
        let both = told(&changes(&wanted, &now, &nobody, silent), &nobody);
        assert_eq!(both.len(), 1);
        assert_eq!(told(&[], &both), both);
    }
}
