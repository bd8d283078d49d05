//! Which attachments of the reference GC takes for gone. Nothing is deleted here.

use zeugma_plan::Family;

use super::*;
use crate::predecessor::programs::{Iptables, Variant};

/// c1 and c2 are masqueraded on mynet, c1 on another network, too; c3's address has become c2's.
fn nat() -> Found {
    let chain = |network: &str, container: &str| {
        let trace = Trace {
            network: network.into(),
            container: container.into(),
            ifname: None,
            addresses: Vec::new(),
            parts: vec![Part::Masquerade],
        };
        trace.chains().remove(0)
    };
    let jump = |network: &str, container: &str, address: &str| {
        format!(
            "-A POSTROUTING -s {address}/32 -m comment --comment \"name: \\\"{network}\\\" id: \\\"{container}\\\"\" -j {}\n",
            chain(network, container)
        )
    };
    let rules = [
        jump("mynet", "c1", "10.88.0.2"),
        jump("mynet", "c2", "10.88.0.3"),
        jump("mynet", "c3", "10.88.0.3"),
        jump("other", "c1", "10.99.0.2"),
        "-A POSTROUTING -m comment --comment \"name: \\\"mynet\\\" id: \\\"c4\\\"\" -j CNI-FORGED\n".into(),
    ];
    let tool = Iptables { family: Family::V4, variant: Variant::Nft };
    Found::Iptables(tool, Saved::parse(&format!("*nat\n{}COMMIT\n", rules.concat())))
}

/// Container, interface, addresses and whether its ports go.
type Gone = (String, Option<String>, Vec<IpAddr>, bool);

fn stale(valid: &[(&str, &str)], leases: &[(&str, &str, &str)]) -> Vec<Gone> {
    let valid = valid.iter().map(|(id, name)| (id.parse().unwrap(), name.parse().unwrap())).collect();
    let lease = |(address, container, ifname): &(&str, &str, &str)| Lease {
        address: address.parse().unwrap(),
        container: (*container).into(),
        ifname: Some((*ifname).into()),
    };
    let leases: Vec<Lease> = leases.iter().map(lease).collect();
    let traces = Known { network: "mynet", valid: &valid, leases: &leases }.stale(&[nat()]);
    let gone = |trace: Trace| {
        let ports = trace.has(Part::Ports);
        (trace.container, trace.ifname, trace.addresses, ports)
    };
    traces.into_iter().map(gone).collect()
}

#[test]
fn comments_tell_who_is_gone_and_leases_whose_an_address_is() {
    let (two, three): (IpAddr, IpAddr) = ("10.88.0.2".parse().unwrap(), "10.88.0.3".parse().unwrap());
    let c2 = [("10.88.0.3", "c2", "eth0")];
    let found = stale(&[("c2", "eth0")], &c2);
    assert_eq!(found, [("c1".into(), None, vec![two], true), ("c3".into(), None, vec![], true)]);
    assert_eq!(stale(&[("c1", "eth0"), ("c2", "eth0"), ("c3", "eth0")], &c2), []);
    let leased = stale(&[("c1", "eth0"), ("c3", "eth0")], &c2);
    assert_eq!(
        leased,
        [("c2".into(), None, vec![], true), ("c2".into(), Some("eth0".into()), vec![three], true)]
    );
}

#[test]
fn a_second_interface_of_a_valid_container_takes_no_ports_along() {
    let valid = [("c1", "eth0"), ("c2", "eth0"), ("c3", "eth0")];
    let second: IpAddr = "10.88.0.7".parse().unwrap();
    let found = stale(&valid, &[("10.88.0.7", "c1", "eth1")]);
    assert_eq!(found, [("c1".into(), Some("eth1".into()), vec![second], false)]);
}
