//! What has to be said to a device so that it is as wanted: peers that are right are not mentioned, and keep their
//! sessions and the places where they were heard of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use zeugma_model::PublicKey;

use crate::uapi::{Change, PeerChange, PeerState, State};

/// How long a session lasts without anything heard (`REJECT_AFTER_TIME`).
pub(crate) const SESSION: Duration = Duration::from_secs(180);

/// The change that makes `there` as `wanted`; none: it is so. `told`: where peers were to be found when that was last
/// said, by whoever asks. `now` is since 1970.
pub fn difference(
    wanted: &State,
    there: &State,
    told: &BTreeMap<PublicKey, SocketAddr>,
    now: Duration,
) -> Option<Change> {
    let mut change = Change {
        private_key: (wanted.private_key != there.private_key).then_some(wanted.private_key),
        listen_port: (wanted.listen_port != there.listen_port).then_some(wanted.listen_port),
        fwmark: (wanted.fwmark != there.fwmark).then_some(wanted.fwmark),
        ..Change::default()
    };
    let standing: BTreeMap<PublicKey, &PeerState> = there.peers.iter().map(|peer| (peer.key, peer)).collect();
    let wanted_keys: BTreeSet<PublicKey> = wanted.peers.iter().map(|peer| peer.key).collect();
    let gone = standing.keys().filter(|key| !wanted_keys.contains(key));
    change.peers.extend(gone.map(|key| PeerChange { remove: true, ..PeerChange::of(*key) }));
    for peer in &wanted.peers {
        let before = told.get(&peer.key).copied();
        change.peers.extend(peer_difference(peer, standing.get(&peer.key).copied(), before, now));
    }
    (change != Change::default()).then_some(change)
}

/// Where the peers were to be found when that was last said, now that `change` is made: what [`difference`] is to be
/// asked with next. One that is heard of elsewhere, and that nobody remembers to have told of, is not among them, so that
/// it is looked for as wanted when it falls silent.
pub fn told_with(
    wanted: &State,
    there: &State,
    change: Option<&Change>,
    before: &BTreeMap<PublicKey, SocketAddr>,
) -> BTreeMap<PublicKey, SocketAddr> {
    let said = change.into_iter().flat_map(|change| &change.peers).map(|peer| (peer.key, peer.endpoint));
    let stands = there.peers.iter().map(|peer| (peer.key, peer.endpoint));
    let remembered = before.iter().map(|(key, endpoint)| (*key, Some(*endpoint)));
    let known: BTreeSet<_> = said.chain(stands).chain(remembered).collect();
    let wanted = wanted.peers.iter().map(|peer| (peer.key, peer.endpoint));
    let told = wanted.filter(|one| known.contains(one));
    told.filter_map(|(key, endpoint)| Some((key, endpoint?))).collect()
}

fn peer_difference(
    wanted: &PeerState,
    there: Option<&PeerState>,
    told: Option<SocketAddr>,
    now: Duration,
) -> Option<PeerChange> {
    let every = || wanted.allowed.iter().map(|network| (*network, true)).collect();
    let plain = PeerChange::of(wanted.key);
    let Some(there) = there else {
        return Some(PeerChange {
            preshared_key: wanted.preshared_key.map(Some),
            endpoint: wanted.endpoint,
            keepalive: Some(wanted.keepalive),
            allowed: every(),
            ..plain
        });
    };
    let [has, is_to_have] = [there, wanted].map(|peer| peer.allowed.iter().copied().collect::<BTreeSet<_>>());
    let change = PeerChange {
        preshared_key: (wanted.preshared_key != there.preshared_key).then_some(wanted.preshared_key),
        endpoint: wanted.endpoint.filter(|endpoint| is_elsewhere(*endpoint, there, told, now)),
        keepalive: (wanted.keepalive != there.keepalive).then_some(wanted.keepalive),
        replace_allowed: has != is_to_have,
        allowed: if has == is_to_have { Vec::new() } else { every() },
        ..plain.clone()
    };
    (change != plain).then_some(change)
}

/// Whether a peer is to be looked for there: it was said to be elsewhere before, or nobody said anything and it is not
/// heard of. Otherwise it has roamed, and knows better.
fn is_elsewhere(wanted: SocketAddr, there: &PeerState, told: Option<SocketAddr>, now: Duration) -> bool {
    let is_heard_of = there.last_handshake.is_some_and(|last| now.saturating_sub(last) < SESSION);
    there.endpoint != Some(wanted) && told.map_or(!is_heard_of, |told| told != wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000_000);

    fn peer(byte: u8, endpoint: &str, allowed: &[&str]) -> PeerState {
        PeerState {
            key: PublicKey([byte; 32]),
            preshared_key: None,
            endpoint: endpoint.parse().ok(),
            last_handshake: None,
            received: 0,
            sent: 0,
            keepalive: 25,
            allowed: allowed.iter().map(|network| network.parse().unwrap()).collect(),
        }
    }

    fn state(peers: &[PeerState]) -> State {
        State { listen_port: 51820, peers: peers.to_vec(), ..State::default() }
    }

    fn changed(wanted: &[PeerState], there: &[PeerState]) -> Vec<PeerChange> {
        let change = difference(&state(wanted), &state(there), &BTreeMap::new(), NOW);
        change.map(|change| change.peers).unwrap_or_default()
    }

    #[test]
    fn peers_that_are_right_are_not_mentioned() {
        let (a, b, c) =
            (peer(1, "192.0.2.1:1", &["10.0.0.0/24"]), peer(2, "", &[]), peer(3, "", &["10.3.0.0/24"]));
        assert_eq!(changed(&[a.clone(), b.clone()], &[b.clone(), a.clone()]), []);
        let change = changed(&[a, c.clone()], &[b.clone(), c]);
        assert!(matches!(&change[..], [gone, new] if gone.remove && gone.key == b.key && new.key.0[0] == 1));
    }

    #[test]
    fn moved_addresses_are_all_said_again() {
        let change = changed(&[peer(1, "", &["10.0.0.0/24"])], &[peer(1, "", &["10.1.0.0/24"])]);
        assert!(change[0].replace_allowed && change[0].allowed.len() == 1 && change[0].keepalive.is_none());
    }

    #[test]
    fn who_roamed_is_left_alone_until_it_is_said_to_be_elsewhere() {
        let wanted = peer(1, "192.0.2.1:1", &[]);
        let said = |told: Option<&str>, heard: Option<u64>| {
            let last_handshake = heard.map(|ago| NOW - Duration::from_secs(ago));
            let there = PeerState { last_handshake, ..peer(1, "192.0.2.9:9", &[]) };
            let told = told.map(|told| (wanted.key, told.parse().unwrap())).into_iter().collect();
            difference(&state(std::slice::from_ref(&wanted)), &state(&[there]), &told, NOW).is_some()
        };
        assert!(!said(Some("192.0.2.1:1"), Some(500)), "it roamed");
        assert!(said(Some("192.0.2.2:1"), Some(5)), "it is said to have moved");
        assert!(!said(None, Some(5)) && said(None, Some(500)) && said(None, None), "nobody remembers");
    }

    #[test]
    fn what_was_not_said_is_not_remembered_as_said() {
        let wanted = peer(1, "192.0.2.1:1", &[]);
        let roamed = PeerState { last_handshake: Some(NOW), ..peer(1, "192.0.2.9:9", &[]) };
        let [wanted, roamed, empty] = [state(&[wanted]), state(&[roamed]), state(&[])];
        let nobody = BTreeMap::new();
        assert_eq!(difference(&wanted, &roamed, &nobody, NOW), None);
        assert_eq!(told_with(&wanted, &roamed, None, &nobody), nobody);
        let later = NOW + SESSION;
        let change = difference(&wanted, &roamed, &nobody, later).unwrap();
        let told = told_with(&wanted, &roamed, Some(&change), &nobody);
        assert_eq!(told.len(), 1);
        assert_eq!(told_with(&wanted, &roamed, None, &told), told);
        assert_eq!(told_with(&wanted, &wanted, None, &nobody), told);
        assert_eq!(told_with(&empty, &roamed, None, &told), nobody);
    }
}
