//! The constant ruleset. What changes per container or port is elements only.
//!
//! Names, priorities and meaning are an interface that others may rely on: docs/reference/nftables.md.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use zeugma_model::Protocol;

use super::{Action, Chain, Hook, Match, Rule, Ruleset, SetId, TableFamily};
use crate::Family;

/// The name of our table in every family.
pub const TABLE: &str = "zeugma";

/// The table's comment: which version of the skeleton it holds.
pub const VERSION_STAMP: &str = "zeugma ruleset 2";

/// The number in [`VERSION_STAMP`]: a skeleton that differs has a higher one.
pub const VERSION: u32 = 2;

/// The chain whose rules are the administrator's.
pub const ADMIN: &str = "admin";

/// The version that a table's comment tells; 0 where it tells none.
pub fn stamped(comment: &str) -> u32 {
    comment.strip_prefix("zeugma ruleset ").and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Our table of a family.
pub fn skeleton_of(family: TableFamily) -> Ruleset {
    match family {
        TableFamily::Inet => skeleton(),
        TableFamily::Bridge => bridge_skeleton(),
    }
}

/// `table inet zeugma`.
pub fn skeleton() -> Ruleset {
    Ruleset {
        family: TableFamily::Inet,
        table: TABLE,
        stamp: VERSION_STAMP,
        sets: inet_sets(),
        chains: inet_chains(),
    }
}

/// `table bridge zeugma`: only where a network asks for `macspoofchk`.
pub fn bridge_skeleton() -> Ruleset {
    let pre = Hook { kind: "filter", name: "prerouting", number: 0, priority: -300 };
    let rules = vec![
        Rule { matches: vec![Match::In(SetId::Allowed)], action: Action::Accept },
        Rule { matches: vec![Match::In(SetId::Guarded)], action: Action::Drop },
    ];
    Ruleset {
        family: TableFamily::Bridge,
        table: TABLE,
        stamp: VERSION_STAMP,
        sets: vec![SetId::Guarded, SetId::Allowed],
        chains: vec![Chain { name: "prerouting", hook: Some(pre), rules }],
    }
}

fn inet_sets() -> Vec<SetId> {
    let per_family = [
        SetId::Masquerade,
        SetId::Network,
        SetId::Published,
        SetId::PublishedAny,
        SetId::Hairpin,
        SetId::MasqueradeAll,
        SetId::Overlay,
        SetId::Reachable,
        SetId::Claimed,
        SetId::Sealed,
        SetId::Ways,
    ];
    let mut sets: Vec<SetId> = per_family.iter().flat_map(|set| Family::ALL.map(set)).collect();
    sets.extend([SetId::Isolated, SetId::SameBridge, SetId::Tunnels]);
    sets
}

fn inet_chains() -> Vec<Chain> {
    vec![
        Chain { name: ADMIN, hook: None, rules: Vec::new() },
        Chain { name: "published", hook: None, rules: Family::ALL.into_iter().flat_map(published).collect() },
        Chain { name: "hairpin", hook: None, rules: Family::ALL.into_iter().flat_map(hairpin).collect() },
        Chain { name: "overlay", hook: None, rules: overlay() },
        Chain { name: "leaving", hook: None, rules: leaving() },
        Chain { name: "clamp", hook: None, rules: clamp() },
        base(
            "localhost",
            Hook { kind: "filter", name: "prerouting", number: 0, priority: -300 },
            localhost(),
        ),
        base("claimed", Hook { kind: "filter", name: "prerouting", number: 0, priority: -300 }, claimed()),
        base("mss", Hook { kind: "filter", name: "forward", number: 2, priority: -150 }, mss()),
        base("forward", Hook { kind: "filter", name: "forward", number: 2, priority: 0 }, forward()),
        base(
            "prerouting",
            Hook { kind: "nat", name: "prerouting", number: 0, priority: -100 },
            to_published(),
        ),
        base("output", Hook { kind: "nat", name: "output", number: 3, priority: -100 }, to_published()),
        base(
            "postrouting",
            Hook { kind: "nat", name: "postrouting", number: 4, priority: 100 },
            postrouting(),
        ),
        base(
            "sealed",
            Hook { kind: "filter", name: "postrouting", number: 4, priority: 300 },
            led_to("leaving", SetId::Sealed),
        ),
    ]
}

fn base(name: &'static str, hook: Hook, rules: Vec<Rule>) -> Chain {
    Chain { name, hook: Some(hook), rules }
}

fn rule(matches: impl Into<Vec<Match>>, action: Action) -> Rule {
    Rule { matches: matches.into(), action }
}

/// Traffic to one of the host's own addresses may be for a published port.
fn to_published() -> Vec<Rule> {
    vec![rule([Match::ToLocal], Action::Goto("published"))]
}

/// An address with its port wins over a port on any address. `::1` cannot be left by routing, so it is
/// no way to a container.
fn published(family: Family) -> Vec<Rule> {
    let mut matches = vec![Match::Family(family)];
    if family == Family::V6 {
        matches.push(Match::DaddrNotIn(host_prefix(Ipv6Addr::LOCALHOST.into())));
    }
    [SetId::Published(family), SetId::PublishedAny(family)]
        .map(|map| rule(matches.clone(), Action::DnatMap(map)))
        .into()
}

/// Flows that were sent to a published port and whose answers would not come back through the host.
fn hairpin(family: Family) -> Vec<Rule> {
    let mut rules = Vec::new();
    if family == Family::V4 {
        rules.push(rule([Match::Family(family), Match::SaddrIn(prefix("127.0.0.0/8"))], Action::Masquerade));
    }
    for set in [SetId::Hairpin(family), SetId::MasqueradeAll(family)] {
        rules.push(rule([Match::Family(family), Match::In(set)], Action::Masquerade));
    }
    rules
}

/// Who enters an overlay: answers, whoever was let in by a published port, its own containers and those of overlays
/// that it is reachable from. Who enters a bridge with an ingress policy: the first two, its own containers when the
/// policy is `same-bridge`; but no other bridge with a policy.
fn forward() -> Vec<Rule> {
    let mut rules = vec![
        rule([], Action::Jump(ADMIN)),
        rule([Match::Established], Action::Accept),
        rule([Match::Dnatted], Action::Accept),
    ];
    rules.extend(led_to("overlay", SetId::Overlay));
    rules.extend([
        rule([Match::In(SetId::SameBridge)], Action::Accept),
        rule([Match::In(SetId::Isolated), Match::OutIn(SetId::Isolated)], Action::Drop),
    ]);
    rules
}

/// Packets with an address in the set go through another chain.
fn led_to(chain: &'static str, set: fn(Family) -> SetId) -> Vec<Rule> {
    let to = |family| rule([Match::Family(family), Match::In(set(family))], Action::Jump(chain));
    Family::ALL.map(to).into()
}

/// Packets to an overlay: its own are subject to the policy of its bridge.
fn overlay() -> Vec<Rule> {
    let of_family = |family| {
        let with = |set| vec![Match::Family(family), Match::In(set)];
        [
            rule(with(SetId::Reachable(family)), Action::Accept),
            rule(with(SetId::Network(family)), Action::Return),
        ]
    };
    let rules = Family::ALL.into_iter().flat_map(of_family);
    rules.chain([rule([], Action::Drop)]).collect()
}

/// Packets come by the bridge and the tunnel of their overlay, or not at all. Those that do, which are most, are looked
/// up once.
fn claimed() -> Vec<Rule> {
    let of_family = |family| {
        let with = |set| vec![Match::Family(family), Match::In(set)];
        [rule(with(SetId::Ways(family)), Action::Accept), rule(with(SetId::Claimed(family)), Action::Drop)]
    };
    Family::ALL.into_iter().flat_map(of_family).collect()
}

/// As they come, so they go.
fn leaving() -> Vec<Rule> {
    let of_family = |family| rule([Match::Family(family), Match::OutIn(SetId::Ways(family))], Action::Return);
    Family::ALL.into_iter().map(of_family).chain([rule([], Action::Drop)]).collect()
}

/// Only what begins a connection is looked at closer: every packet that is forwarded comes here.
fn mss() -> Vec<Rule> {
    vec![rule([Match::Transport(Protocol::Tcp), Match::Syn], Action::Jump("clamp"))]
}

/// Who is beyond a tunnel does not hear of its MTU when the ICMP messages that tell are lost on the way.
fn clamp() -> Vec<Rule> {
    [Match::In(SetId::Tunnels), Match::OutIn(SetId::Tunnels)].map(|by| rule([by], Action::ClampMss)).into()
}

/// `route_localnet`, which published ports on 127.0.0.1 need, must not open the host's own services there
/// to containers.
fn localhost() -> Vec<Rule> {
    let loopback = prefix("127.0.0.0/8");
    vec![rule([Match::NotFromLo, Match::Family(Family::V4), Match::DaddrIn(loopback)], Action::Drop)]
}

fn postrouting() -> Vec<Rule> {
    let mut rules = vec![rule([Match::Dnatted], Action::Jump("hairpin"))];
    for family in Family::ALL {
        let multicast = prefix(match family {
            Family::V4 => "224.0.0.0/4",
            Family::V6 => "ff00::/8",
        });
        let of_family = Match::Family(family);
        rules.push(rule([of_family.clone(), Match::In(SetId::Network(family))], Action::Return));
        // A tunnel takes no packets with addresses of another network.
        rules.push(rule([of_family.clone(), Match::In(SetId::Reachable(family))], Action::Masquerade));
        rules.push(rule([of_family.clone(), Match::DaddrIn(multicast)], Action::Return));
        rules.push(rule([of_family, Match::In(SetId::Masquerade(family))], Action::Masquerade));
    }
    rules
}

fn prefix(text: &str) -> IpNetwork {
    text.parse().expect("the skeleton's prefixes are written right")
}

fn host_prefix(address: IpAddr) -> IpNetwork {
    IpNetwork::from(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_tells_the_version() {
        assert_eq!(stamped(VERSION_STAMP), VERSION);
        assert_eq!((stamped("zeugma ruleset 12"), stamped("somebody's"), stamped("")), (12, 0, 0));
    }
}
