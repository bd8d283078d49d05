//! The shape of results in each version, both ways.

use serde_json::{Value, json};
use zeugma_protocol::{CniResult, Dns, EncodeError, Interface, Ip, Route, Version};

/// A dual-stack container with everything set that 1.1.0 knows.
fn full() -> CniResult {
    let container = Interface {
        name: "eth0".into(),
        mac: Some("02:00:00:00:00:01".parse().unwrap()),
        mtu: Some(1450),
        sandbox: Some("/run/netns/one".into()),
        socket_path: Some("/run/vhost.sock".into()),
        pci_id: Some("0000:00:1f.6".into()),
    };
    let address = |address: &str, gateway: &str| Ip {
        address: address.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        interface: Some(1),
    };
    CniResult {
        interfaces: vec![Interface { name: "cni0".into(), ..Interface::default() }, container],
        ips: vec![address("10.1.2.3/24", "10.1.2.1"), address("fd00::3/64", "fd00::1")],
        routes: vec![Route {
            dst: "0.0.0.0/0".parse().unwrap(),
            gw: Some("10.1.2.1".parse().unwrap()),
            mtu: Some(1400),
            advmss: Some(1360),
            priority: Some(7),
            table: Some(100),
            scope: Some(0),
        }],
        dns: Dns { nameservers: vec!["10.1.2.1".into()], ..Dns::default() },
    }
}

#[track_caller]
fn check(version: Version, expected: Value) {
    assert_eq!(full().to_json(version), Ok(expected));
}

fn families(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "ip4": { "ip": "10.1.2.3/24", "gateway": "10.1.2.1", "routes": [{ "dst": "0.0.0.0/0", "gw": "10.1.2.1" }] },
        "ip6": { "ip": "fd00::3/64", "gateway": "fd00::1" },
        "dns": { "nameservers": ["10.1.2.1"] },
    })
}

/// 0.3.0 to 1.0.0; `numbered`: with `ips[].version`.
fn lists(version: &str, numbered: bool) -> Value {
    let mut value = json!({
        "cniVersion": version,
        "interfaces": [
            { "name": "cni0" },
            { "name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/one" },
        ],
        "ips": [
            { "address": "10.1.2.3/24", "gateway": "10.1.2.1", "interface": 1 },
            { "address": "fd00::3/64", "gateway": "fd00::1", "interface": 1 },
        ],
        "routes": [{ "dst": "0.0.0.0/0", "gw": "10.1.2.1" }],
        "dns": { "nameservers": ["10.1.2.1"] },
    });
    if numbered {
        value["ips"][0]["version"] = "4".into();
        value["ips"][1]["version"] = "6".into();
    }
    value
}

#[test]
fn c1_09_result_of_0_1_0_has_ip4_and_ip6() {
    check(Version::V0_1_0, families("0.1.0"));
}

#[test]
fn c1_09_result_of_0_2_0_has_ip4_and_ip6() {
    check(Version::V0_2_0, families("0.2.0"));
}

#[test]
fn c1_09_result_of_0_3_0_numbers_the_family() {
    check(Version::V0_3_0, lists("0.3.0", true));
}

#[test]
fn c1_09_result_of_0_3_1_numbers_the_family() {
    check(Version::V0_3_1, lists("0.3.1", true));
}

#[test]
fn c1_09_result_of_0_4_0_numbers_the_family() {
    check(Version::V0_4_0, lists("0.4.0", true));
}

#[test]
fn c1_09_result_of_1_0_0_does_not_number_the_family() {
    check(Version::V1_0_0, lists("1.0.0", false));
}

#[test]
fn c1_09_result_of_1_1_0_has_mtu_socket_pci_and_route_fields() {
    let mut expected = lists("1.1.0", false);
    expected["interfaces"][1]["mtu"] = 1450.into();
    expected["interfaces"][1]["socketPath"] = "/run/vhost.sock".into();
    expected["interfaces"][1]["pciID"] = "0000:00:1f.6".into();
    expected["routes"][0] = json!({
        "dst": "0.0.0.0/0", "gw": "10.1.2.1",
        "mtu": 1400, "advmss": 1360, "priority": 7, "table": 100, "scope": 0,
    });
    check(Version::V1_1_0, expected);
}

#[test]
fn an_empty_dns_is_written_in_0_x_only() {
    let result = CniResult { dns: Dns::default(), ..full() };
    assert_eq!(result.to_json(Version::V0_4_0).unwrap()["dns"], json!({}));
    assert_eq!(result.to_json(Version::V1_0_0).unwrap().get("dns"), None);
}

#[test]
fn a_result_without_address_has_no_shape_before_0_3_0() {
    for version in [Version::V0_1_0, Version::V0_2_0] {
        assert_eq!(CniResult::default().to_json(version), Err(EncodeError::NoAddress { version }));
    }
    assert_eq!(CniResult::default().to_json(Version::V1_1_0), Ok(json!({ "cniVersion": "1.1.0" })));
}

#[test]
fn before_0_3_0_the_first_address_of_each_family_counts() {
    let mut result = full();
    result.ips.insert(1, Ip { address: "10.9.9.9/16".parse().unwrap(), gateway: None, interface: None });
    assert_eq!(result.to_json(Version::V0_2_0), Ok(families("0.2.0")));
}

#[test]
fn every_version_reads_what_it_writes() {
    for version in Version::ALL {
        let written = full().to_json(version).unwrap();
        let read = CniResult::from_json(&written, Version::V0_1_0).unwrap();
        assert_eq!(read.to_json(version), Ok(written), "{version}");
    }
}

#[test]
fn a_result_without_version_is_of_its_configurations() {
    let mut written = lists("1.0.0", false);
    written.as_object_mut().unwrap().remove("cniVersion");
    let read = |default| CniResult::from_json(&written, default).unwrap();
    assert_eq!(read(Version::V1_0_0).ips.len(), 2);
    assert_eq!(read(Version::V0_2_0).ips.len(), 0);
}

#[test]
fn c1_30_an_ipam_result_has_no_interfaces() {
    let ipam = json!({ "cniVersion": "1.0.0", "ips": [{ "address": "10.1.2.3/24" }] });
    let result = CniResult::from_json(&ipam, Version::V0_1_0).unwrap();
    assert_eq!((result.interfaces.len(), result.ips[0].interface), (0, None));
    assert_eq!(result.to_json(Version::V1_0_0), Ok(ipam));
}

#[test]
fn null_empty_and_foreign_values_are_tolerated() {
    let read = CniResult::from_json(
        &json!({
            "cniVersion": "0.4.0", "interfaces": [{ "name": "ib0", "mac": "80:00:00:00:fe:80:00:00:00:00:00:00:00:00:00:00:00:00:00:01", "sandbox": "" }],
            "ips": [{ "version": "4", "address": "10.1.2.3/24", "gateway": "", "interface": null }],
            "routes": null, "dns": { "nameservers": null }, "unknown": 1,
        }),
        Version::V0_1_0,
    )
    .unwrap();
    assert_eq!((read.interfaces[0].mac, &read.interfaces[0].sandbox), (None, &None));
    assert_eq!((read.ips[0].gateway, read.ips[0].interface), (None, None));
}

#[test]
fn a_bad_result_names_the_key() {
    for (key, value) in [
        ("ips[0].address", json!({ "ips": [{ "address": "10.1.2.3" }] })),
        ("ips[0].address", json!({ "ips": [{ "address": "10.1.2.3/33" }] })),
        (
            "ips[1].gateway",
            json!({ "ips": [{ "address": "::1/64" }, { "address": "::1/64", "gateway": "x" }] }),
        ),
        ("interfaces[0].mac", json!({ "interfaces": [{ "name": "eth0", "mac": "zz" }] })),
        ("routes[0]", json!({ "routes": [{}] })),
        ("cniVersion", json!({ "cniVersion": 1 })),
    ] {
        let error = CniResult::from_json(&value, Version::V1_0_0).unwrap_err().to_string();
        assert!(error.contains(&format!("{key:?}")), "{key}: {error}");
    }
}
