//! The verbs of `host-local` on throw-away directories.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;
use zeugma_protocol::{CniCode, Version};

use super::*;
use crate::testing::{conf, network_request, request};

/// A host of its own: lease directory and run directory.
struct Host {
    root: TempDir,
}

impl Host {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn conf(&self, mut ipam: Value, more: Value) -> NetConf {
        ipam["dataDir"] = self.root.path().join("leases").to_str().unwrap().into();
        conf(ipam, &more)
    }

    fn lessor(&self) -> Lessor {
        Lessor { run_dir: self.root.path().join("run") }
    }

    fn add(&self, conf: &NetConf, container: &str, args: &str) -> Result<Vec<String>, Error> {
        let result = self.lessor().add(&request(conf, container, args))?;
        Ok(result.ips.iter().map(|ip| ip.address.to_string()).collect())
    }

    fn del(&self, conf: &NetConf, container: &str) {
        self.lessor().del(&request(conf, container, "")).unwrap();
    }

    /// The lease directory's files, but for `lock` and the round robin's.
    fn leases(&self) -> Vec<String> {
        let listing = fs::read_dir(self.root.path().join("leases/net")).unwrap();
        let mut names: Vec<String> =
            listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "lock" && !name.starts_with("last_reserved_ip."));
        names.sort();
        names
    }

    fn write(&self, name: &str, contents: &str) {
        let directory = self.root.path().join("leases/net");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(name), contents).unwrap();
    }
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> u32 {
    result.unwrap_err().code().number()
}

fn subnet() -> Value {
    json!({"subnet": "10.1.2.0/29"})
}

#[test]
fn files_are_the_references() {
    let host = Host::new();
    let conf =
        host.conf(json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00:1::/64"}]]}), json!({}));
    assert_eq!(host.add(&conf, "c1", "").unwrap(), ["10.1.2.2/24", "fd00:1::2/64"]);
    let read = |name: &str| fs::read_to_string(host.root.path().join("leases/net").join(name)).unwrap();
    assert_eq!(host.leases(), ["10.1.2.2", "fd00:1::2"]);
    assert_eq!((read("10.1.2.2"), read("fd00:1::2")), ("c1\r\neth0".into(), "c1\r\neth0".into()));
    assert_eq!(
        (read("last_reserved_ip.0"), read("last_reserved_ip.1")),
        ("10.1.2.2".into(), "fd00:1::2".into())
    );
    host.del(&conf, "c1");
    host.del(&conf, "c1");
    assert_eq!(host.leases(), Vec::<String>::new());
    assert_eq!(host.add(&conf, "c2", "").unwrap(), ["10.1.2.3/24", "fd00:1::3/64"]);
}

#[test]
fn the_result_has_gateway_routes_and_dns_but_no_interface() {
    let host = Host::new();
    host.write("resolv.conf", "nameserver 192.0.2.3\nsearch a b\n");
    let resolv = host.root.path().join("leases/net/resolv.conf");
    let ipam = json!({"subnet": "10.1.2.0/24", "gateway": "10.1.2.9", "resolvConf": resolv,
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "10.1.2.8", "table": 9, "priority": 0}]});
    let result = host.lessor().add(&request(&host.conf(ipam, json!({})), "c1", "")).unwrap();
    assert!(result.interfaces.is_empty());
    assert_eq!(result.ips[0].gateway, Some("10.1.2.9".parse().unwrap()));
    assert_eq!(result.ips[0].interface, None);
    assert_eq!((result.routes[1].table, result.routes[1].priority), (Some(9), None));
    assert_eq!(
        (result.dns.nameservers, result.dns.search),
        (vec!["192.0.2.3".into()], vec!["a".into(), "b".into()])
    );
}

#[test]
fn range_sets_come_from_three_places_in_order() {
    let host = Host::new();
    let ipam =
        json!({"subnet": "10.2.0.0/24", "rangeStart": "10.2.0.7", "ranges": [[{"subnet": "10.3.0.0/24"}]]});
    let more =
        json!({"runtimeConfig": {"ipRanges": [[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.5"}]]}});
    assert_eq!(
        host.add(&host.conf(ipam, more), "c1", "").unwrap(),
        ["10.1.0.5/24", "10.2.0.7/24", "10.3.0.2/24"]
    );
}

#[test]
fn requested_addresses_add_up_from_three_places() {
    let host = Host::new();
    let ipam = json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}], [{"subnet": "fd00::/64"}]]});
    let more = json!({"args": {"cni": {"ips": ["10.2.0.77/16"]}}, "runtimeConfig": {"ips": ["fd00::77"]}});
    let conf = host.conf(ipam, more);
    let args = "IgnoreUnknown=0;MAC=02:00:00:00:00:01;IP=10.1.0.77";
    assert_eq!(host.add(&conf, "c1", args).unwrap(), ["10.1.0.77/24", "10.2.0.77/24", "fd00::77/64"]);
}

#[test]
fn a_requested_address_is_given_or_refused() {
    let host = Host::new();
    let conf = host.conf(subnet(), json!({}));
    assert_eq!(code(host.add(&conf, "c1", "IP=10.1.2.1")), 7, "gateway");
    assert_eq!(code(host.add(&conf, "c1", "IP=10.9.2.1")), 7, "outside");
    assert_eq!(code(host.add(&conf, "c1", "IP=10.9")), 4, "no address");
    assert_eq!(host.add(&conf, "c1", "IP=10.1.2.5").unwrap(), ["10.1.2.5/29"]);
    assert_eq!(code(host.add(&conf, "c2", "IP=10.1.2.5")), 111);
    assert_eq!(host.leases(), ["10.1.2.5"]);
}

#[test]
fn a_second_add_is_refused_and_frees_nothing() {
    let host = Host::new();
    let conf =
        host.conf(json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00::/64"}]]}), json!({}));
    host.add(&conf, "c1", "").unwrap();
    let error = host.add(&conf, "c1", "").unwrap_err();
    assert!(error.to_string().contains("duplicate allocation is not allowed"), "{error}");
    assert_eq!(error.code().number(), 112);
    assert_eq!(code(host.add(&conf, "c1", "IP=10.1.2.9")), 112);
    assert_eq!(host.leases(), ["10.1.2.2", "fd00::2"]);
}

#[test]
fn when_one_range_set_is_exhausted_nothing_is_leased() {
    let host = Host::new();
    let ranges = json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00::/126"}]]});
    let conf = host.conf(ranges, json!({}));
    for container in ["c1", "c2"] {
        host.add(&conf, container, "").unwrap();
    }
    let before = host.leases();
    for _ in 0..2 {
        assert_eq!(code(host.add(&conf, "c3", "")), 110);
        assert_eq!(host.leases(), before);
    }
    assert_eq!(code(host.lessor().status(&network_request(&conf))), 50);
    assert_eq!(code(host.lessor().dry_run(&request(&conf, "c3", ""))), 110);
    host.del(&conf, "c1");
    assert!(host.lessor().status(&network_request(&conf)).is_ok());
    assert_eq!(host.add(&conf, "c3", "").unwrap()[1], "fd00::2/126");
}

#[test]
fn check_finds_the_lease_or_says_113() {
    let host = Host::new();
    let conf = host.conf(subnet(), json!({}));
    assert_eq!(code(host.lessor().check(&request(&conf, "c1", ""))), 113);
    host.add(&conf, "c1", "").unwrap();
    assert!(host.lessor().check(&request(&conf, "c1", "")).is_ok());
    fs::remove_file(host.root.path().join("leases/net/10.1.2.2")).unwrap();
    assert_eq!(code(host.lessor().check(&request(&conf, "c1", ""))), 113);
}

#[test]
fn del_needs_no_valid_ranges_and_no_directory() {
    let host = Host::new();
    host.del(&host.conf(subnet(), json!({})), "c1");
    assert!(!host.root.path().join("leases").exists());
    host.add(&host.conf(subnet(), json!({})), "c1", "").unwrap();
    host.del(&host.conf(json!({"subnet": "nonsense"}), json!({})), "c1");
    assert!(host.leases().is_empty());
}

#[test]
fn leases_in_the_old_format_belong_to_every_interface() {
    let host = Host::new();
    let conf = host.conf(subnet(), json!({}));
    host.write("10.1.2.4", "c1\n");
    assert!(host.lessor().check(&request(&conf, "c1", "")).is_ok());
    assert_eq!(code(host.add(&conf, "c1", "")), 112);
    host.del(&conf, "c1");
    assert!(host.leases().is_empty());
}

#[test]
fn gc_keeps_what_is_valid_and_only_touches_its_network() {
    let host = Host::new();
    let plain = host.conf(subnet(), json!({}));
    let other = host.conf(subnet(), json!({"name": "other"}));
    for container in ["c1", "c2", "c3"] {
        host.add(&plain, container, "").unwrap();
        host.add(&other, container, "").unwrap();
    }
    host.write("10.1.2.6", "c3");
    host.lessor().gc(&network_request(&plain)).unwrap();
    assert_eq!(host.leases().len(), 4, "no list, no removal");
    let valid = json!([{"containerID": "c2", "ifname": "eth0"}, {"containerID": "c3", "ifname": "eth1"}]);
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        host.lessor().gc(&network_request(&host.conf(subnet(), json!({key: valid})))).unwrap();
        assert_eq!(host.leases(), ["10.1.2.3", "10.1.2.6"]);
    }
    assert_eq!(fs::read_dir(host.root.path().join("leases/other")).unwrap().count(), 3 + 2);
    host.del(&plain, "c2");
    assert_eq!(code(host.lessor().check(&request(&plain, "c2", ""))), 113);
}

#[test]
fn mistakes_have_their_codes() {
    let host = Host::new();
    let refused = |ipam: Value, more: Value| code(host.add(&host.conf(ipam, more), "c1", ""));
    let two = || json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]});
    assert_eq!(refused(json!({}), json!({})), 7);
    assert_eq!(refused(json!({"subnet": 1}), json!({})), 6);
    assert_eq!(refused(json!({"subnet": "10.0.0.1/24"}), json!({})), 7);
    assert_eq!(
        refused(json!({"subnet": "10.1.0.0/16", "ranges": [[{"subnet": "10.1.2.0/24"}]]}), json!({})),
        7
    );
    assert_eq!(refused(two(), json!({"cniVersion": "0.2.0"})), 7);
    assert_eq!(refused(json!({"subnet": "10.0.0.0/24", "resolvConf": "/nonexistent"}), json!({})), 5);
    assert_eq!(refused(subnet(), json!({"runtimeConfig": {"ips": ["x"]}})), 7);
    assert!(
        matches!(Config::parse(&host.conf(two(), json!({"cniVersion": "0.3.0"})), None), Ok(config) if config.sets.len() == 2)
    );
    assert!(matches!(
        Config::parse(&host.conf(two(), json!({"cniVersion": "0.1.0"})), None),
        Err(Error::OnePerFamily(Version::V0_1_0))
    ));
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let host = Host::new();
    let conf = host.conf(subnet(), json!({}));
    let text = host.lessor().dry_run(&request(&conf, "c1", "")).unwrap();
    assert!(text.starts_with("host: lease 10.1.2.2/29 gateway 10.1.2.1 in "), "{text}");
    assert!(host.lessor().status(&network_request(&conf)).is_ok());
    assert_eq!(fs::read_dir(host.root.path()).unwrap().count(), 0);
    host.add(&conf, "c1", "IP=10.1.2.3").unwrap();
    assert!(host.lessor().dry_run(&request(&conf, "c2", "")).unwrap().starts_with("host: lease 10.1.2.4/29"));
    assert_eq!(code(host.lessor().dry_run(&request(&conf, "c2", "IP=10.1.2.3"))), 111);
}
