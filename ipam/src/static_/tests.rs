//! Where the addresses of `static` come from, and CHECK.

use serde_json::{Value, json};
use zeugma_protocol::CniCode;

use super::*;
use crate::testing::{conf, request};

fn ipam() -> Value {
    json!({
        "addresses": [{"address": "10.10.0.1/24", "gateway": "10.10.0.254"}, {"address": "3ffe:ffff:0:1ff::1/64"}],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "10.10.5.1", "mtu": 1400}],
        "dns": {"nameservers": ["8.8.8.8"], "domain": "example.com"}
    })
}

#[track_caller]
fn check(ipam: Value, more: Value, args: &str, expected: &[&str]) {
    let conf = conf(ipam, &more);
    let text = Static.dry_run(&request(&conf, "c1", args)).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[track_caller]
fn code(ipam: Value, more: Value, args: &str) -> u32 {
    Static.add(&request(&conf(ipam, &more), "c1", args)).unwrap_err().code().number()
}

#[test]
fn configured_addresses_routes_and_dns_are_the_result() {
    let result = Static.add(&request(&conf(ipam(), &json!({})), "c1", "")).unwrap();
    assert!(result.interfaces.is_empty() && result.ips.iter().all(|ip| ip.interface.is_none()));
    assert_eq!(result.ips[0].address.to_string(), "10.10.0.1/24");
    assert_eq!(result.ips[0].gateway, Some("10.10.0.254".parse().unwrap()));
    assert_eq!((result.ips[1].gateway, result.routes[1].mtu), (None, Some(1400)));
    assert_eq!(result.dns.nameservers, ["8.8.8.8"]);
}

#[test]
fn arguments_add_and_lists_replace() {
    let one = || json!({"addresses": [{"address": "10.0.0.1/8"}]});
    let ips = |list: Value| json!({"cni": {"ips": list}});
    check(
        one(),
        json!({}),
        "IP=10.10.0.1/24, 11.0.0.9/24;GATEWAY=10.10.0.254;X=Y",
        &["address 10.0.0.1/8", "address 10.10.0.1/24 gateway 10.10.0.254", "address 11.0.0.9/24"],
    );
    check(one(), json!({"args": ips(json!(["10.2.0.1/24"]))}), "IP=10.10.0.1/24", &["address 10.2.0.1/24"]);
    let both =
        json!({"args": ips(json!(["10.2.0.1/24"])), "runtimeConfig": {"ips": ["10.3.0.1/24", "fd00::1/64"]}});
    check(one(), both, "", &["address 10.3.0.1/24", "address fd00::1/64"]);
    check(json!({}), json!({"args": null, "runtimeConfig": {"ips": []}}), "IP=", &[]);
}

#[test]
fn mistakes_have_their_codes() {
    let two = || json!({"addresses": [{"address": "10.0.0.1/8"}, {"address": "10.0.0.2/8"}]});
    assert_eq!(code(json!({"addresses": [{"address": "10.0.0.1"}]}), json!({}), ""), 7);
    assert_eq!(code(json!({"addresses": 1}), json!({}), ""), 6);
    assert_eq!(code(json!({}), json!({"runtimeConfig": {"ips": ["10.0.0.1"]}}), ""), 7);
    assert_eq!(code(json!({}), json!({}), "IP=10.0.0.1"), 4);
    assert_eq!(code(json!({}), json!({}), "GATEWAY=x"), 4);
    assert_eq!(code(two(), json!({"cniVersion": "0.2.0"}), ""), 7);
}

#[test]
fn check_compares_with_the_result() {
    let check = |result: Value| {
        let conf = conf(ipam(), &json!({"prevResult": result}));
        Static.check(&request(&conf, "c1", "")).map_err(|error| error.code().number())
    };
    let v6 = json!({"address": "3ffe:ffff:0:1ff::1/64", "gateway": "3ffe:ffff:0::1"});
    let with = |v4: Value| json!({"cniVersion": "1.1.0", "ips": [v4, v6]});
    assert_eq!(check(with(json!({"address": "10.10.0.1/24", "gateway": "10.10.0.254"}))), Ok(()));
    assert_eq!(check(with(json!({"address": "10.10.0.1/24", "gateway": "10.10.0.253"}))), Err(120));
    assert_eq!(check(with(json!({"address": "10.10.0.2/24", "gateway": "10.10.0.254"}))), Err(120));
    assert_eq!(check(Value::Null), Err(7));
}

#[test]
fn del_gc_and_status_have_nothing_to_do() {
    let conf = conf(ipam(), &json!({}));
    let network = crate::testing::network_request(&conf);
    assert!(Static.del(&request(&conf, "c1", "")).is_ok());
    assert!(Static.gc(&network).is_ok() && Static.status(&network).is_ok());
}
