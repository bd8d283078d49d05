//! The plans of `sbr`: which rules and routes for which addresses, as `--dry-run` would print them.

use std::collections::BTreeSet;

use zeugma_kernel::{RouteState, RuleState};
use zeugma_model::IfName;
use zeugma_protocol::{CniResult, Ip};

use super::config::Config;
use super::plan::{Observed, Source, adopted, missing, routed, sources, withdrawn};
use crate::routing::MAIN;

fn eth1() -> IfName {
    "eth1".parse().unwrap()
}

fn own() -> Config {
    Config::Own { gateways: Vec::new(), source_hints: false }
}

fn source(address: &str, gateway: &str) -> Source {
    Source { address: address.parse().unwrap(), gateway: gateway.parse().ok() }
}

/// `DST [via GW] [src SRC]` in main; `default` and `default6` are everywhere.
fn route(text: &str) -> RouteState {
    let words: Vec<&str> = text.split(' ').collect();
    let after = |word| words.iter().position(|it| *it == word).map(|at| words[at + 1].parse().unwrap());
    let dst = words[0];
    let is_ipv6 = dst.contains(':') || dst == "default6";
    RouteState {
        dst: dst.parse().ok(),
        gw: after("via"),
        is_ipv6,
        table: MAIN,
        priority: is_ipv6.then_some(1024),
        mtu: None,
        advmss: None,
        scope: if is_ipv6 || after("via").is_some() { 0 } else { 253 },
        protocol: 2,
        source: after("src"),
        onlink: false,
        is_unicast: true,
        is_multipath: false,
    }
}

fn observed(routes: &[&str]) -> Observed {
    Observed { routes: routes.iter().map(|text| route(text)).collect(), ..Observed::default() }
}

fn dual_stack() -> ([Source; 2], Observed) {
    let sources = [source("10.1.0.2/24", "10.1.0.1"), source("2001:db8::2/64", "2001:db8::1")];
    let routes = [
        "default via 10.1.0.1",
        "10.1.0.0/24 src 10.1.0.2",
        "10.9.0.0/16 via 10.1.0.9",
        "2001:db8::/64",
        "fe80::/64",
        "default6 via 2001:db8::1",
    ];
    (sources, observed(&routes))
}

fn planned(config: &Config, sources: &[Source], observed: &Observed) -> String {
    routed(config, &eth1(), sources, observed).unwrap().0.to_string()
}

#[test]
fn each_address_takes_its_routes_along() {
    let (sources, observed) = dual_stack();
    insta::assert_snapshot!(planned(&own(), &sources, &observed));
}

#[test]
fn an_asked_table_is_left_to_whoever_named_it() {
    let (sources, observed) = dual_stack();
    insta::assert_snapshot!(planned(&Config::Asked { table: 4000 }, &sources, &observed));
}

#[test]
fn hints_keep_the_subnets_in_main() {
    let (sources, observed) = dual_stack();
    let config = Config::Own { gateways: Vec::new(), source_hints: true };
    insta::assert_snapshot!(planned(&config, &sources, &observed));
}

#[test]
fn named_gateways_stand_instead_of_what_was_there() {
    let (sources, observed) = dual_stack();
    let gateways = vec!["10.1.0.77".parse().unwrap(), "2001:db8::77".parse().unwrap()];
    insta::assert_snapshot!(planned(&Config::Own { gateways, source_hints: false }, &sources, &observed));
}

#[test]
fn two_addresses_share_what_belongs_to_neither_and_nothing_else() {
    let sources = [source("10.1.0.2/24", ""), source("10.2.0.2/24", "")];
    let routes =
        ["10.1.0.0/24 src 10.1.0.2", "10.2.0.0/24 src 10.2.0.2", "10.3.0.0/24 via 172.16.0.1", "10.4.0.0/24"];
    insta::assert_snapshot!(planned(&own(), &sources, &observed(&routes)));
}

#[test]
fn tables_in_use_are_passed_over() {
    let rule = RuleState { from: None, table: 100, is_unclaimed: false, is_plain: true };
    let observed = Observed { rules: vec![rule], tables: BTreeSet::from([101, 254]), ..Observed::default() };
    let (_, rules) = routed(&own(), &eth1(), &dual_stack().0, &observed).unwrap();
    assert_eq!(rules.iter().map(|rule| rule.table).collect::<Vec<_>>(), [102, 103]);
}

/// The container after the plan: its rules, and each table's routes.
fn applied(sources: &[Source], observed: &Observed) -> Observed {
    let (_, specs) = routed(&own(), &eth1(), sources, observed).unwrap();
    let rules = specs.iter().map(|spec| RuleState {
        from: Some(spec.from),
        table: spec.table,
        is_unclaimed: true,
        is_plain: true,
    });
    let routes = specs.iter().flat_map(|spec| {
        let of_family = observed.routes.iter().filter(|route| route.is_ipv6 == spec.from.is_ipv6());
        of_family.map(|route| RouteState { table: spec.table, ..route.clone() })
    });
    Observed { rules: rules.collect(), tables: BTreeSet::new(), routes: routes.collect() }
}

#[test]
fn check_finds_each_thing_that_is_gone() {
    let (sources, observed) = dual_stack();
    let whole = applied(&sources, &observed);
    assert_eq!(missing(&own(), &eth1(), &sources, &whole), None);
    let without = |mut less: Observed, rule: bool| {
        if rule {
            less.rules.truncate(1)
        } else {
            less.routes.retain(|route| route.dst.is_some())
        }
        missing(&own(), &eth1(), &sources, &less).unwrap()
    };
    assert_eq!(without(whole.clone(), true), "there is no routing rule for packets from 2001:db8::2");
    assert_eq!(without(whole, false), "table 100 has no default route by eth1");
}

#[test]
fn del_withdraws_what_was_made_and_leaves_other_tables() {
    let (sources, observed) = dual_stack();
    let mut routes = applied(&sources, &observed).routes;
    routes.push(RouteState { table: 7, ..route("10.7.0.0/24") });
    let (_, rules) = routed(&own(), &eth1(), &sources, &observed).unwrap();
    insta::assert_snapshot!(withdrawn(&rules, true, &eth1(), &routes));
    assert_eq!(withdrawn(&rules, false, &eth1(), &routes).steps().len(), 2);
}

#[test]
fn only_rules_that_nobody_claims_are_taken_over() {
    let from = |address: &str| Some(address.parse().unwrap());
    let rule = |from, table| RuleState { from, table, is_unclaimed: true, is_plain: true };
    let rules = [
        rule(from("10.1.0.2/32"), 100),
        rule(from("10.1.0.2/32"), 200),
        rule(from("10.1.0.2/32"), 77),
        rule(from("10.1.0.0/24"), 100),
        rule(None, MAIN),
        RuleState { is_unclaimed: false, ..rule(from("10.1.0.2/32"), 101) },
        RuleState { is_plain: false, ..rule(from("10.1.0.2/32"), 102) },
    ];
    let tables = |config: &Config| -> Vec<u32> {
        let found = adopted(config, &["10.1.0.2/24".parse().unwrap()], &rules);
        found.iter().map(|rule| rule.table).collect()
    };
    assert_eq!(tables(&own()), [100, 200]);
    assert_eq!(tables(&Config::Asked { table: 200 }), [200]);
}

#[test]
fn an_address_without_interface_is_the_container_s() {
    let ip = |address: &str, interface| Ip { address: address.parse().unwrap(), gateway: None, interface };
    let result = CniResult {
        interfaces: ["br0", "eth1"]
            .map(|name| zeugma_protocol::Interface { name: name.into(), ..Default::default() })
            .into(),
        ips: vec![ip("10.0.0.1/24", Some(0)), ip("10.0.0.2/24", Some(1)), ip("10.0.0.3/24", None)],
        ..CniResult::default()
    };
    let found = sources(&result, &eth1()).unwrap();
    assert_eq!(found, [source("10.0.0.2/24", ""), source("10.0.0.3/24", "")]);
    assert!(sources(&CniResult::default(), &eth1()).is_err());
}
