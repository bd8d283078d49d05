//! The constant chains. Names, priorities and meaning: docs/reference/services.md.

use super::{Action, Chain, Front, Load, Match, Place, Rule, Set, Skeleton, Way};
use crate::Family;
use crate::nft::Hook;

/// The name of the table.
pub const TABLE: &str = "zeugma_services";

/// The table's comment: which version of the skeleton it holds.
pub const STAMP: &str = "zeugma services 2";

/// Up to so many endpoints of the same weight have a slot each.
pub const EXACT_SLOTS: u32 = 64;

/// Slots of the largest table.
pub const LARGEST_TABLE: u32 = 1 << 16;

/// In place of the number of slots: clients stay with their endpoints.
pub const STICKY: u32 = 1 << 20;

/// For how many seconds clients can be remembered: a chain each, as the time is part of a rule.
pub const AFFINITY_SECONDS: [u32; 12] =
    [10, 30, 60, 120, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 86_400];

/// Before `inet zeugma` (-100, 100), whose published ports and masquerade stand behind services.
const DNAT: i32 = -105;
const SNAT: i32 = 95;

/// The shortest of [`AFFINITY_SECONDS`] that is not shorter than `seconds`, or the longest.
pub fn affinity_class(seconds: u32) -> u32 {
    AFFINITY_SECONDS.into_iter().find(|class| *class >= seconds).unwrap_or(86_400)
}

/// `table inet zeugma_services` without what is programmed.
pub fn skeleton() -> Skeleton {
    let mut skeleton = Skeleton { sets: Vec::new(), chains: base_chains(), ways: Vec::new() };
    for family in Family::ALL {
        skeleton.sets.extend(Set::programmed().filter(|set| set.family() == family));
        skeleton.sets.push(Set::Affinity(family));
        let first = skeleton.chains.len();
        skeleton.chains.extend(of_family(family));
        for front in [Front::Vip, Front::Port] {
            add_front(&mut skeleton, front, family);
        }
        for rule in skeleton.chains[first..].iter_mut().flat_map(|chain| &mut chain.rules) {
            // No packet of the other family gets there; but without, nft lists bytes instead of addresses.
            rule.matches.insert(0, Match::Family(family));
        }
    }
    skeleton
}

fn add_front(skeleton: &mut Skeleton, front: Front, family: Family) {
    let (spread, remember) = (Set::Spread(front, family), Set::Remember(front, family));
    let enter = Set::Enter(front, family);
    skeleton.sets.extend([enter, spread, remember]);
    skeleton.chains.extend([first(front, family), recall(front, family)]);
    let stay = stay(front, family);
    skeleton.ways.push(Way { set: enter, number: STICKY, chain: stay.name.clone() });
    skeleton.chains.push(stay);
    for slots in sizes() {
        let chain = spread_chain(slots, front, family);
        let ways = [enter, spread].map(|set| Way { set, number: slots, chain: chain.name.clone() });
        skeleton.ways.extend(ways);
        skeleton.chains.push(chain);
    }
    for seconds in AFFINITY_SECONDS {
        let chain = remember_chain(seconds, front, family);
        skeleton.ways.push(Way { set: remember, number: seconds, chain: chain.name.clone() });
        skeleton.chains.push(chain);
    }
}

/// Numbers of slots that there is a chain for.
fn sizes() -> impl Iterator<Item = u32> {
    let tables = (0..).map(|bit| EXACT_SLOTS << 1 << bit).take_while(|size| *size <= LARGEST_TABLE);
    (1..=EXACT_SLOTS).chain(tables)
}

fn base_chains() -> Vec<Chain> {
    let by_family = |matches: &[Match], go: fn(String) -> Action, chain: &str| -> Vec<Rule> {
        let of = |family| {
            let matches = [&[Match::Family(family)], matches].concat();
            rule(matches, go(format!("{chain}-{family}")))
        };
        Family::ALL.map(of).into()
    };
    let nat = |name, number, priority| Hook { kind: "nat", name, number, priority };
    let arriving = |nobody_s: fn(Family) -> Vec<Match>| {
        let mut rules = by_family(&[], Action::Jump, "to");
        let refuse = |family| {
            let matches = [&[Match::Family(family)], &nobody_s(family)[..]].concat();
            rule(matches, Action::Goto("refuse".into()))
        };
        rules.extend(Family::ALL.map(refuse));
        rules
    };
    vec![
        base(
            "prerouting",
            nat("prerouting", 0, DNAT),
            arriving(|family| {
                let held = match family {
                    Family::V4 => Match::WayByLo,
                    Family::V6 => Match::ToHeld(family),
                };
                vec![to(family, Set::Ranges), held]
            }),
        ),
        base(
            "output",
            nat("output", 3, DNAT),
            arriving(|family| vec![Match::LeavesByLo, to(family, Set::Ranges), Match::ToHeld(family)]),
        ),
        base("input", nat("input", 1, SNAT), by_family(&[Match::Dnatted], Action::Goto, "here")),
        base("postrouting", nat("postrouting", 4, SNAT), by_family(&[Match::Dnatted], Action::Goto, "from")),
        plain("refuse", vec![rule([Match::Tcp], Action::Reset), rule([], Action::Unreachable)]),
    ]
}

fn of_family(family: Family) -> Vec<Chain> {
    let left = |front| {
        let suffix = suffix(front, family);
        let rules = [Action::Jump(format!("recall-{suffix}")), Action::Goto(format!("source-{family}"))];
        plain(&format!("left-{suffix}"), rules.map(|action| rule([], action)).into())
    };
    vec![
        plain(&format!("to-{family}"), arriving(family)),
        plain(&format!("vip-{family}"), vip(family)),
        plain(&format!("port-{family}"), spread_twice(Front::Port, family, Place::Second)),
        plain(&format!("here-{family}"), translated(family, "recall")),
        plain(&format!("from-{family}"), translated(family, "left")),
        left(Front::Vip),
        left(Front::Port),
        plain(&format!("source-{family}"), source(family)),
        plain(&format!("inner-{family}"), inner(family)),
        plain(&format!("among-{family}"), among(family)),
    ]
}

/// Most new flows are to no service: they pay for these two lookups, and for one in the ranges.
fn arriving(family: Family) -> Vec<Rule> {
    let to_port = Match::In(vec![Load::Protocol, Load::Dport], Set::Ports(family));
    vec![
        rule([to(family, Set::Vips)], Action::Goto(format!("vip-{family}"))),
        rule([to_port, Match::NotToLoopback(family), Match::ToLocal], Action::Goto(format!("port-{family}"))),
    ]
}

/// The frontend of a packet that is not translated yet.
fn arrived(front: Front, family: Family) -> Vec<Load> {
    let address = match front {
        Front::Vip => Load::Daddr(family),
        Front::Port => Load::AnyAddress(family),
    };
    vec![address, Load::Protocol, Load::Dport]
}

/// The frontend that a translated packet was sent to.
fn original(front: Front, family: Family) -> Vec<Load> {
    let address = match front {
        Front::Vip => Load::OriginalDaddr(family),
        Front::Port => Load::AnyAddress(family),
    };
    vec![address, Load::Protocol, Load::OriginalDport]
}

fn client(family: Family, frontend: Vec<Load>) -> Vec<Load> {
    [vec![Load::Saddr(family)], frontend].concat()
}

/// An element that one transaction deletes and adds anew can be missed by a lookup that falls in between: kernels
/// before 6.17 do not look again. So we do, before the flow counts as one to nowhere.
fn spread_twice(front: Front, family: Family, slots: Place) -> Vec<Rule> {
    let ways = match slots {
        Place::Second => Set::Enter(front, family),
        Place::Third => Set::Spread(front, family),
    };
    let spread = || {
        let key = arrived(front, family);
        Action::Dispatch(key, Set::Services(family), slots, ways)
    };
    vec![rule([], spread()), rule([], spread())]
}

/// What is for nobody goes nowhere: it is refused here, before it has an entry in conntrack.
fn vip(family: Family) -> Vec<Rule> {
    let mut rules = spread_twice(Front::Vip, family, Place::Second);
    rules.push(rule([Match::Echo(family)], Action::Redirect));
    rules.push(rule([], Action::Goto("refuse".into())));
    rules
}

/// Who is remembered stays; endpoints that leave are taken out of the map by whoever programs.
fn stay(front: Front, family: Family) -> Chain {
    let key = client(family, arrived(front, family));
    let mut rules = vec![rule([], Action::Dnat(key, Set::Affinity(family)))];
    rules.extend(spread_twice(front, family, Place::Third));
    plain(&format!("stay-{}", suffix(front, family)), rules)
}

/// A slot by chance. Between the lookup of the number of slots and this one, a transaction may have taken the slot
/// away; the first one is there as long as there is any.
fn spread_chain(slots: u32, front: Front, family: Family) -> Chain {
    let first = Action::Goto(format!("first-{}", suffix(front, family)));
    let rules = vec![rule([], to_slot(slots, front, family)), rule([], first)];
    plain(&format!("lb-{slots}-{}", suffix(front, family)), rules)
}

fn first(front: Front, family: Family) -> Chain {
    plain(&format!("first-{}", suffix(front, family)), vec![rule([], to_slot(1, front, family))])
}

fn to_slot(slots: u32, front: Front, family: Family) -> Action {
    let key = [arrived(front, family), vec![Load::Random(slots)]].concat();
    Action::Dnat(key, Set::Endpoints(front, family))
}

fn remember_chain(seconds: u32, front: Front, family: Family) -> Chain {
    let key = client(family, original(front, family));
    let rules = vec![rule([], Action::Remember(key, Set::Affinity(family), seconds))];
    plain(&format!("remember-{seconds}-{}", suffix(front, family)), rules)
}

/// New flows that were translated: is their client to be remembered?
fn recall(front: Front, family: Family) -> Chain {
    let (key, remember) = (original(front, family), Set::Remember(front, family));
    let rules = vec![rule([], Action::Dispatch(key, Set::Affine(family), Place::Second, remember))];
    plain(&format!("recall-{}", suffix(front, family)), rules)
}

/// Translated by us?
fn translated(family: Family, next: &str) -> Vec<Rule> {
    let to_vip = Match::In(vec![Load::OriginalDaddr(family)], Set::Vips(family));
    let to_port = Match::In(vec![Load::Protocol, Load::OriginalDport], Set::Ports(family));
    let next = |front| Action::Goto(format!("{next}-{}", suffix(front, family)));
    vec![rule([to_vip], next(Front::Vip)), rule([to_port], next(Front::Port))]
}

/// Whose answers come back through this host keeps its address; who cannot is masqueraded. Most flows come from
/// outside, or from another host's containers: they pay for no lookup of pairs of subnets, the dearest of all.
fn source(family: Family) -> Vec<Rule> {
    let own_backend = Match::In(vec![Load::Saddr(family), Load::Daddr(family)], Set::Hairpin(family));
    let from_local = Match::In(vec![Load::Saddr(family)], Set::Local(family));
    vec![
        rule([own_backend], Action::Masquerade),
        rule([from_local], Action::Goto(format!("inner-{family}"))),
        rule([to(family, Set::Local)], Action::KeepSource(family)),
        // The host to itself.
        rule([Match::FromLocal, Match::ToLocal], Action::Return),
        // The host's own programs, too: their source fits the route to the virtual address, not to the endpoint.
        rule([], Action::Masquerade),
    ]
}

/// From containers of this host.
fn inner(family: Family) -> Vec<Rule> {
    let direct = Match::In(vec![Load::Saddr(family), Load::Daddr(family)], Set::Direct(family));
    vec![
        rule([direct], Action::Masquerade),
        rule([to(family, Set::Local)], Action::KeepSource(family)),
        rule([to(family, Set::Inside)], Action::Goto(format!("among-{family}"))),
        // To what is outside: as their network has it, in `inet zeugma`.
        rule([], Action::Return),
    ]
}

/// To containers of other hosts. Where an overlay's are, nobody takes packets with another network's addresses.
fn among(family: Family) -> Vec<Rule> {
    let within = Match::In(vec![Load::Saddr(family), Load::Daddr(family)], Set::Within(family));
    vec![
        rule([within], Action::KeepSource(family)),
        rule([to(family, Set::Overlays)], Action::Masquerade),
        rule([], Action::KeepSource(family)),
    ]
}

fn to(family: Family, set: fn(Family) -> Set) -> Match {
    Match::In(vec![Load::Daddr(family)], set(family))
}

fn suffix(front: Front, family: Family) -> String {
    match front {
        Front::Vip => family.to_string(),
        Front::Port => format!("port-{family}"),
    }
}

fn base(name: &str, hook: Hook, rules: Vec<Rule>) -> Chain {
    Chain { name: name.into(), hook: Some(hook), rules }
}

fn plain(name: &str, rules: Vec<Rule>) -> Chain {
    Chain { name: name.into(), hook: None, rules }
}

fn rule(matches: impl Into<Vec<Match>>, action: Action) -> Rule {
    Rule { matches: matches.into(), action }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_way_leads_to_a_chain_and_names_fit() {
        let skeleton = skeleton();
        let names: BTreeSet<&str> = skeleton.chains.iter().map(|chain| chain.name.as_str()).collect();
        assert_eq!(names.len(), skeleton.chains.len());
        assert!(names.iter().all(|name| name.len() < 32));
        assert!(skeleton.ways.iter().all(|way| names.contains(way.chain.as_str())));
        for rule in skeleton.chains.iter().flat_map(|chain| &chain.rules) {
            if let Action::Jump(chain) | Action::Goto(chain) = &rule.action {
                assert!(names.contains(chain.as_str()), "{chain}");
            }
        }
    }

    #[test]
    fn what_rules_load_is_what_sets_hold() {
        for rule in skeleton().chains.iter().flat_map(|chain| &chain.rules) {
            let lookups = rule.matches.iter().filter_map(|condition| match condition {
                Match::In(loads, set) => Some((loads, *set)),
                _ => None,
            });
            let action = match &rule.action {
                Action::Dispatch(loads, set, ..)
                | Action::Dnat(loads, set)
                | Action::Remember(loads, set, _) => Some((loads, *set)),
                _ => None,
            };
            for (loads, set) in lookups.chain(action) {
                let types: Vec<_> = loads.iter().map(|load| load.of_type()).collect();
                assert_eq!(types, set.key(), "{}", set.name());
            }
        }
    }

    #[test]
    fn affinities_are_rounded_up() {
        assert_eq!([1, 10, 11, 10_800, 86_400].map(affinity_class), [10, 10, 30, 10_800, 86_400]);
    }
}
