//! Clusters and hosts at random: what is planned makes the host agree, and then there is nothing to do.

use proptest::prelude::*;
use zeugma_model::{Backend, Mac};

use super::Cluster;
use crate::objects::Wanted;
use crate::{Desired, Forward, LinkSeen, Observed, Path, Route, RouteKey, SeenKind, additions, plan};

/// Nodes that claim what others claim as well, at times.
fn cluster() -> impl Strategy<Value = Cluster> {
    let backend = prop::sample::select(Backend::ALL.to_vec());
    let node = (0u8..6, 0u8..6, 0u8..8, any::<bool>(), any::<bool>());
    (backend, prop::collection::vec(node, 0..6), any::<bool>()).prop_map(|(backend, nodes, over_v6)| {
        let mut cluster = Cluster::of(backend);
        for (at, (machine, address, block, has_v4, has_v6)) in nodes.into_iter().enumerate() {
            let v4 = format!("{}.{address}", if address % 2 == 0 { "192.0.2" } else { "198.51.100" });
            let v6 = format!("2001:db8::{address}");
            let addresses = [has_v4.then_some(v4.as_str()), has_v6.then_some(v6.as_str())];
            let name = format!("n{at}");
            cluster.join(&name, machine, &addresses.into_iter().flatten().collect::<Vec<_>>());
            cluster.revisions.insert(name.parse().unwrap(), u64::from(machine ^ block));
            cluster.take(&name, &format!("10.9.{block}.0/{}", 22 + block % 3));
            cluster.take(&name, &format!("fd00:9:0:{block}::/64"));
        }
        if over_v6 { cluster.over_v6() } else { cluster }
    })
}

/// What somebody did to a host: nothing, or one thing of each kind by number.
fn disturb(mut host: Observed, seed: u8) -> Observed {
    let nth = usize::from(seed % 7);
    if seed & 1 != 0 {
        let gone: Vec<_> = host.routes.keys().skip(nth).step_by(3).copied().collect();
        host.routes.retain(|key, _| !gone.contains(key));
        host.routes.values_mut().skip(nth).take(1).for_each(|route| *route = Route::Other);
    }
    if seed & 2 != 0 {
        let gone: Vec<_> = host.neighbours.keys().skip(nth).take(2).cloned().collect();
        host.neighbours.retain(|key, _| !gone.contains(key));
        host.neighbours.values_mut().take(1).for_each(|mac| *mac = Mac([2; 6]));
        let more: Vec<Forward> = host.forwards.iter().skip(nth / 2).cloned().collect();
        let more = more.into_iter().map(|entry| Forward { remote: "203.0.113.1".parse().unwrap(), ..entry });
        host.forwards.extend(more);
    }
    if seed & 4 != 0 {
        host.links.values_mut().for_each(|link| (link.up, link.mtu) = (false, 1280));
        host.addresses.pop_first();
    }
    if seed & 8 != 0 {
        let learns = |link: &mut LinkSeen| {
            if let SeenKind::Vxlan { learning, .. } = &mut link.kind {
                *learning = true;
            }
        };
        host.links.values_mut().for_each(learns);
    }
    if seed & 16 != 0 {
        host.links.values_mut().for_each(|link| link.alias = "somebody's".into());
    }
    host
}

proptest! {
    #[test]
    fn what_is_planned_makes_the_host_agree(now in cluster(), before in cluster(), seed in any::<u8>()) {
        let old = before.with_wireguard();
        let old = old.clone().after(&plan(&before.desired(), &old));
        let mut host = disturb(old, seed);
        host.links.extend(now.with_wireguard().links);
        let desired = now.desired();
        let first = plan(&desired, &host);
        let after = host.after(&first);
        let again = plan(&desired, &after);
        prop_assert!(again.is_empty(), "first:\n{first}\nagain:\n{again}");
        let wanted = Wanted::of(&desired).without(&first.foreign.union(&first.missing).cloned().collect());
        prop_assert_eq!(&after.addresses, &wanted.addresses);
        prop_assert_eq!(&after.routes, &wanted.routes);
        prop_assert_eq!(&after.neighbours, &wanted.neighbours);
        prop_assert_eq!(&after.forwards, &wanted.forwards);
        prop_assert!(!after.links.iter().any(|(name, seen)| seen.is_ours() && !wanted.links.contains_key(name)));
    }

    #[test]
    fn additions_take_nothing_away_and_mend_what_is(now in cluster(), before in cluster(), seed in any::<u8>()) {
        let whole = before.with_wireguard();
        let whole = whole.clone().after(&plan(&before.desired(), &whole));
        let host = disturb(whole.clone(), seed);
        let added = additions(&now.desired(), &host);
        let after = host.clone().after(&added);
        prop_assert!(host.links.keys().all(|name| after.links.contains_key(name)));
        prop_assert!(host.routes.iter().all(|(key, route)| after.routes.get(key) == Some(route)));
        prop_assert!(host.neighbours.iter().all(|(key, mac)| after.neighbours.get(key) == Some(mac)));
        prop_assert!(after.forwards.is_superset(&host.forwards) && after.addresses.is_superset(&host.addresses));
        prop_assert!(additions(&now.desired(), &after).is_empty(), "first:\n{added}");
        // What it had it has again, but on links that are somebody else's by now.
        let mended = host.clone().after(&additions(&before.desired(), &host));
        let is_ours = |name| mended.links.get(name).is_some_and(LinkSeen::is_ours);
        prop_assert!(whole.addresses.iter().all(|on| mended.addresses.contains(on) || !is_ours(&on.0)));
        prop_assert!(whole.neighbours.keys().all(|on| mended.neighbours.contains_key(on) || !is_ours(&on.0)));
        prop_assert!(seed & 16 != 0 || whole.routes.keys().all(|key| mended.routes.contains_key(key)));
    }

    #[test]
    fn nothing_is_reached_twice_and_the_rest_is_nowhere(cluster in cluster()) {
        let desired: Desired = cluster.desired();
        for overlay in desired.overlays.values() {
            let blocks: Vec<_> = overlay.peers.iter().flat_map(|(node, peer)| {
                peer.blocks.iter().map(move |block| (node, *block))
            }).collect();
            for (at, (node, block)) in blocks.iter().enumerate() {
                let overlaps = |(other, another): &(&zeugma_model::NodeName, ipnetwork::IpNetwork)| {
                    other != node && (another.contains(block.ip()) || block.contains(another.ip()))
                };
                prop_assert!(!blocks[..at].iter().any(overlaps), "{block}");
            }
            let remotes: Vec<_> = overlay.peers.values().filter_map(|peer| match &peer.path {
                Path::Vxlan { remote, .. } => Some(*remote),
                Path::Wireguard { endpoint, .. } => Some(endpoint.ip()),
                Path::Direct { .. } => None,
            }).collect();
            let distinct: std::collections::BTreeSet<_> = remotes.iter().collect();
            prop_assert_eq!(distinct.len(), remotes.len());
            let wanted = Wanted::of(&desired);
            for destination in &overlay.subnets {
                let key = RouteKey { destination: *destination, metric: crate::UNREACHABLE_METRIC };
                prop_assert_eq!(wanted.routes.get(&key), Some(&Route::Unreachable));
            }
        }
    }
}
