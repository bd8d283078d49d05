//! Chains as nft lists them, and what becomes of packets that meet them.

use serde_json::json;

use super::*;

/// `table ip filter` with a chain FORWARD of these rules and policy.
pub(crate) fn filters(drops: bool, rules: &[Value]) -> Filters {
    let base = BaseChain {
        family: NftFamily::Ip,
        table: "filter".into(),
        name: "FORWARD".into(),
        hook: 2,
        priority: 0,
        kind: "filter".into(),
        drops,
    };
    let rule = |(handle, (chain, expr)): (usize, (&str, &Value))| json!({"rule": {"family": "ip", "table": "filter", "chain": chain, "handle": handle, "expr": expr}});
    let rules = rules.iter().map(|rule| (rule["in"].as_str().unwrap_or("FORWARD"), &rule["expr"]));
    let objects: Vec<Value> = rules.enumerate().map(rule).collect();
    let listing = table(&json!({"nftables": objects}).to_string());
    Filters {
        bases: vec![base],
        tables: [(("ip", "filter".to_owned()), listing)].into(),
        has_admin_rules: false,
    }
}

/// The administrator's chain with these rules' expressions.
pub(crate) fn administered(rules: &[Value]) -> Filters {
    let rule = |(handle, expr): (usize, &Value)| json!({"rule": {"family": INET, "table": TABLE, "chain": ADMIN, "handle": handle, "expr": expr}});
    let objects: Vec<Value> = rules.iter().enumerate().map(rule).collect();
    let listing = table(&json!({"nftables": objects}).to_string());
    let tables = [((INET, TABLE.to_owned()), listing)].into();
    Filters { bases: Vec::new(), tables, has_admin_rules: true }
}

fn outgoing() -> Passing {
    Passing {
        hook: Hook::Forward,
        iif: "br0".into(),
        oif: "eth0".into(),
        source: "10.88.0.2".parse().unwrap(),
        destination: "192.0.2.2".parse().unwrap(),
        port: Some((Protocol::Tcp, 443)),
        is_translated: false,
    }
}

fn check(drops: bool, rules: &[Value], expected: bool) {
    let dropped = filters(drops, rules).that_drop(&outgoing());
    assert_eq!(!dropped.is_empty(), expected, "{rules:?}");
}

fn meta(key: &str, value: &str) -> Value {
    json!({"match": {"op": "==", "left": {"meta": {"key": key}}, "right": value}})
}

#[test]
fn a_policy_that_drops_counts_unless_a_rule_lets_our_packets_pass() {
    check(false, &[], false);
    check(true, &[], true);
    check(
        true,
        &[
            json!({"expr": [meta("iifname", "br0"), {"counter": {"packets": 1, "bytes": 60}}, {"accept": null}]}),
        ],
        false,
    );
    check(true, &[json!({"expr": [meta("iifname", "docker0"), {"accept": null}]})], true);
    check(true, &[json!({"expr": [meta("oifname", "eth*"), {"accept": null}]})], false);
    let established =
        json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}});
    check(true, &[json!({"expr": [established, {"accept": null}]})], true);
    let ours = json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
        "right": {"prefix": {"addr": "10.88.0.0", "len": 16}}}});
    check(true, &[json!({"expr": [ours, {"accept": null}]})], false);
}

#[test]
fn the_administrator_s_rules_are_followed_as_far_as_they_can_be_told() {
    let told = |rules: &[Value]| administered(rules).administrator(&outgoing());
    let (drop, accept) = (json!({"drop": null}), json!({"accept": null}));
    assert_eq!(Filters::default().administrator(&outgoing()), Administrator::Passes);
    assert_eq!(told(&[json!([meta("iifname", "br0"), drop])]), Administrator::Drops);
    assert_eq!(told(&[json!([meta("iifname", "eth0"), drop])]), Administrator::Passes);
    assert_eq!(told(&[json!([meta("oifname", "eth0"), accept]), json!([drop])]), Administrator::Accepts);
    let original = json!({"match": {"op": "==", "left": {"ct": {"key": "proto-dst", "dir": "original"}}, "right": 8080}});
    assert_eq!(told(&[json!([original, drop])]), Administrator::Unclear);
    assert_eq!(told(&[json!([original, accept]), json!([drop])]), Administrator::Unclear);
    assert_eq!(told(&[json!([drop]), json!([original, accept])]), Administrator::Drops);
}

#[test]
fn jumps_are_followed_and_what_cannot_be_told_is_let_through() {
    let jump = json!({"expr": [{"jump": {"target": "USER"}}]});
    check(
        false,
        &[
            jump.clone(),
            json!({"in": "USER", "expr": [{"reject": {"type": "icmpx", "expr": "admin-prohibited"}}]}),
        ],
        true,
    );
    check(
        true,
        &[jump.clone(), json!({"in": "USER", "expr": [meta("iifname", "br0"), {"accept": null}]})],
        false,
    );
    check(true, &[jump, json!({"in": "USER", "expr": [{"return": null}]})], true);
    check(true, &[json!({"expr": [{"xt": null}, {"accept": null}]})], false);
    check(true, &[json!({"expr": [{"something new": 1}]})], false);
    check(false, &[json!({"expr": [{"xt": null}, {"drop": null}]})], false);
}
