//! What the plugin understands and plans, without a device.

use serde_json::json;
use zeugma_model::{AttachmentId, Mac};

use super::*;
use crate::interface::testing::{given, place, planned, refused};

fn link(alias: Option<&str>) -> LinkState {
    let alias = alias.map(str::to_owned);
    let mac = Some(Mac([2, 0, 0, 0, 0, 5]));
    LinkState { index: 5, mtu: 9000, mac, up: true, alias, ..LinkState::default() }
}

/// The runtime says which device.
fn any() -> Config {
    Config { selector: None, duplicate_detection: Default::default() }
}

fn route(dst: &str, gw: Option<&str>) -> RouteState {
    RouteState {
        dst: Some(dst.parse().unwrap()),
        gw: gw.map(|gw| gw.parse().unwrap()),
        is_ipv6: false,
        table: 254,
        priority: None,
        mtu: None,
        advmss: None,
        scope: if gw.is_some() { 0 } else { 253 },
        protocol: 4,
        source: None,
        onlink: false,
        is_unicast: true,
        is_multipath: false,
    }
}

#[test]
fn only_routes_that_come_back_by_nothing_else_are_restored() {
    let plain = || route("10.6.0.0/16", None);
    assert!(plan::is_lost(&plain()));
    assert!(!plan::is_lost(&RouteState { protocol: 2, ..plain() }), "with its address");
    assert!(!plan::is_lost(&RouteState { protocol: 9, ..plain() }), "with the router's next word");
    assert!(!plan::is_lost(&RouteState { is_multipath: true, ..plain() }), "the others' next hops would go");
    assert!(!plan::is_lost(&RouteState { is_unicast: false, ..plain() }));
}

fn device() -> Facts {
    Facts::Interfaced(Interfaced {
        name: "ens3f1".parse().unwrap(),
        state: link(Some("uplink to rack 4")),
        addresses: vec![("192.0.2.7/24".parse().unwrap(), AddressFlags::default())],
        routes: vec![route("10.6.0.0/16", None), route("10.7.0.0/16", Some("10.6.0.1"))],
        master: Some("br0".parse().unwrap()),
        pci: Some("0000:03:00.1".into()),
    })
}

#[test]
fn a_device_passes_into_the_container_under_a_name_that_nobody_has() {
    insta::assert_snapshot!(planned::<HostDevice>(r#"{"device": "ens3f1"}"#, |config| {
        HostDevice::attached(config, &place(), given(), &device())
    }));
}

#[test]
fn a_failed_add_gives_the_device_back_as_it_was() {
    let attached = HostDevice::attached(&any(), &place(), CniResult::default(), &device()).unwrap();
    let all: Vec<usize> = (0..attached.links.steps().len()).collect();
    insta::assert_snapshot!(Plan::from_iter(attached.links.undo_of(&all)));
}

#[test]
fn a_device_that_a_program_drives_stays_where_it_is() {
    let facts = Facts::Userspace { pci: "0000:05:00.0".into() };
    let attached = HostDevice::attached(&any(), &place(), given(), &facts).unwrap();
    assert!(attached.links.is_empty() && attached.addresses.is_empty());
    let interface = &attached.result.interfaces[0];
    assert_eq!((interface.name.as_str(), interface.mac, interface.mtu), ("eth0", None, None));
    assert_eq!(interface.pci_id.as_deref(), Some("0000:05:00.0"));
    assert_eq!(attached.result.ips[0].interface, Some(0));
    assert_eq!(attached.record.device, None);
}

fn id() -> AttachmentId {
    place().attachment
}

/// The way back of `ens3f1`, from links written as `name` or `name=alias`.
fn way_back(phase: Phase, inside: &[&str], outside: &[&str]) -> String {
    let named = |text: &&str| {
        let (name, alias) = text.split_once('=').map_or((*text, None), |(name, alias)| (name, Some(alias)));
        (name.parse().unwrap(), link(alias))
    };
    let inside: Vec<Named> = inside.iter().map(named).collect();
    let outside: Vec<Named> = outside.iter().map(named).collect();
    let device = Device { name: "ens3f1".parse().unwrap(), alias: None };
    let record = Record { phase, ..Record::default() };
    let at = plan::whereabouts(&id(), &record, &device, (&inside, &outside));
    at.map(|at| plan::returned(&id(), &device, at, &outside).to_string()).unwrap_or_default()
}

#[test]
fn the_device_comes_back_from_wherever_it_is() {
    let cases: [(&str, &[&str], &[&str]); 6] = [
        ("in the container", &["lo", "eth0=ens3f1"], &["lo", "eth0"]),
        ("its name is taken", &["eth0=ens3f1"], &["ens3f1"]),
        ("the container renamed it", &["lo", "wan=ens3f1", "eth1"], &[]),
        ("the kernel brought it back as dev7", &[], &["lo", "dev7=ens3f1"]),
        ("it is back, but for its alias", &["lo"], &["ens3f1=ens3f1"]),
        ("the namespace took it along", &[], &["lo", "eth0"]),
    ];
    let told =
        cases.map(|(case, inside, outside)| format!("# {case}\n{}", way_back(Phase::Done, inside, outside)));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn half_an_add_takes_only_what_bears_its_mark() {
    assert_eq!(way_back(Phase::Intent, &["eth0"], &["ens3f1"]), "");
    assert!(way_back(Phase::Intent, &["eth0", "dev1234=ens3f1"], &[]).contains("set dev1234 netns host"));
    assert_eq!(way_back(Phase::Done, &[], &["a=ens3f1", "b=ens3f1"]), "", "which of the two, nobody knows");
}

#[test]
fn a_link_of_the_container_s_that_has_the_name_stays() {
    assert_eq!(way_back(Phase::Done, &["eth0"], &[]), "");
    let back = way_back(Phase::Done, &["eth0=other", "phys=ens3f1"], &[]);
    assert!(back.contains("set phys netns host name ens3f1"), "{back}");
    let device = Device { name: "ens3f1".parse().unwrap(), alias: None };
    let record = Record { phase: Phase::Done, mac: link(None).mac, ..Record::default() };
    let of = |name: &str, alias, mac| {
        (name.parse().unwrap(), LinkState { mac: Some(Mac([2, 0, 0, 0, 0, mac])), ..link(alias) })
    };
    let at = |inside: &[Named]| plan::whereabouts(&id(), &record, &device, (inside, &[]));
    let found = |name: &str| Some((Side::Container, name.parse().unwrap()));
    assert_eq!(at(&[of("eth0", None, 6), of("phys", None, 5)]), found("phys"), "by its address");
    assert_eq!(at(&[of("eth0", Some("ens3f1"), 6), of("phys", Some("ens3f1"), 5)]), found("phys"));
    assert_eq!(at(&[of("eth0", None, 5), of("eth0.7", None, 5)]), found("eth0"), "its VLAN has its address");
    assert_eq!(
        at(&[of("eth0", Some("ens3f1"), 9), of("eth1", None, 5)]),
        found("eth0"),
        "tuning gave it another"
    );
}

#[test]
fn without_a_record_a_virtual_link_is_the_host_s_only_if_the_configuration_says_so() {
    let veth = LinkState { kind: "veth".into(), ..link(Some("ens3f1")) };
    assert!(!HostDevice::is_ours(&veth) && HostDevice::is_ours(&link(Some("ens3f1"))));
    let named = |selector| unrecorded::named_by(&selector, &veth).is_some();
    assert!(named(Selector::Name("ens3f1".parse().unwrap())));
    assert!(!named(Selector::Name("ens3f2".parse().unwrap())));
    assert!(named(Selector::Mac(Mac([2, 0, 0, 0, 0, 5]))));
    assert!(!named(Selector::Mac(Mac([2, 0, 0, 0, 0, 6]))));
    assert!(!named(Selector::KernelPath("/sys/devices/virtual".into())));
}

#[test]
fn what_means_nothing_is_refused_with_its_key() {
    refused::<HostDevice>(r#"{"device": "not/a/name"}"#, "invalid device \"not/a/name\"");
    refused::<HostDevice>(r#"{"hwaddr": "02:00"}"#, "invalid MAC address asked for: ");
    for path in ["/sys/class/net/eth0", "sys/devices/pci0", "/sys/devices/../bus"] {
        let keys = json!({ "kernelpath": path }).to_string();
        refused::<HostDevice>(&keys, "invalid kernelpath ");
    }
    refused::<HostDevice>(r#"{"pciBusID": "../../net"}"#, "invalid pciBusID ");
}

#[test]
fn the_first_key_says_which_device() {
    let of = |keys: serde_json::Value| {
        let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "host-device"});
        conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let conf = NetConf::parse(conf.to_string().as_bytes()).unwrap();
        Config::of_network(&conf).unwrap().selector.map(|selector| selector.words().0)
    };
    let all = json!({"device": "e", "hwaddr": "02:00:00:00:00:01", "kernelpath": "/sys/devices/x", "pciBusID": "1"});
    assert_eq!(of(all), Some("device"));
    assert_eq!(
        of(json!({"device": "", "kernelpath": "/sys/devices/x", "pciBusID": "1"})),
        Some("kernelpath")
    );
    assert_eq!(of(json!({"pciBusID": "0000:03:00.1"})), Some("pciBusID"));
    assert_eq!(of(json!({})), None);
}
