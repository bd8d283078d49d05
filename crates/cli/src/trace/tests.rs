//! What a trace says, decided from what was looked at: no packet is sent and nothing is asked of a kernel.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use serde_json::json;
use zeugma_journal::{Journal, Record};
use zeugma_kernel::{Leaving, LinkState, Way};
use zeugma_model::{AttachmentId, Protocol};
use zeugma_plan::Family;
use zeugma_plan::nft::services::{Backend, Element as Serving, Frontend};
use zeugma_plan::nft::{Element, SetId, Value};

use super::state::{Around, State};
use super::target::{Target, found};
use super::walk::{End, Walk, packet};
use crate::host::filters::tests::administered;
use crate::host::{Attached, Link, attached};

/// Routes by destination, and who listens.
#[derive(Default)]
struct Rehearsed {
    host: HashMap<IpAddr, Way>,
    listens: Vec<SocketAddr>,
}

impl Around for Rehearsed {
    fn way(&mut self, inside: Option<&Attached>, leaving: &Leaving) -> Result<Way> {
        let out = |link: &str, via: Option<&str>| Way::Out {
            link: link.parse().unwrap(),
            via: via.map(|via| via.parse().unwrap()),
            source: None,
            mtu: None,
        };
        if let Some(one) = inside {
            let own = one.addresses.iter().any(|address| address.contains(leaving.to));
            return Ok(out("eth0", (!own).then_some("10.88.0.1")));
        }
        Ok(self.host.get(&leaving.to).cloned().unwrap_or_else(|| out("eth0", Some("192.0.2.2"))))
    }

    fn listener(&mut self, _: Option<&Attached>, _: Protocol, at: SocketAddr) -> Option<String> {
        self.listens.contains(&at).then(|| "a program".into())
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Containers `a` and `b` on `br0`, `c` on `br1`; `a` publishes 8080, and a service is `a` and `b`.
fn scene() -> (State, Rehearsed) {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::at(directory.path());
    let mut state = State { forwards: [true; 2], ..State::default() };
    let mut around = Rehearsed::default();
    for (name, bridge, own) in
        [("a", "br0", "10.88.0.2"), ("b", "br0", "10.88.0.3"), ("c", "br1", "10.88.1.2")]
    {
        let id = AttachmentId {
            network: "net".parse().unwrap(),
            container: name.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        let record = json!({"plugin": "bridge", "phase": "done", "bridge": bridge, "addresses": [format!("{own}/24")]});
        let record: Record = serde_json::from_value(record).unwrap();
        journal.begin(&id, record).unwrap();
        let to = Way::Out { link: bridge.parse().unwrap(), via: None, source: None, mtu: None };
        around.host.insert(address(own), to);
        around.listens.push((address(own), 80).into());
    }
    around.host.insert(address("192.0.2.1"), Way::Here);
    state.attached = attached(&journal).unwrap();
    for (index, (name, own)) in
        [("eth0", "192.0.2.1/24"), ("br0", "10.88.0.1/24"), ("br1", "10.88.1.1/24")].iter().enumerate()
    {
        let link = LinkState { index: index as u32 + 1, ..LinkState::default() };
        state
            .links
            .insert(name.parse().unwrap(), Link { state: link, addresses: vec![own.parse().unwrap()] });
    }
    let (set, owner) = (SetId::PublishedAny(Family::V4), "net/a/eth0".to_owned());
    let key = vec![Value::Protocol(Protocol::Tcp), Value::Port(8080)];
    state.elements.push(Element {
        set,
        key,
        data: vec![Value::Address(address("10.88.0.2")), Value::Port(80)],
        owner,
    });
    let subnet = Value::Prefix("10.88.0.0/24".parse().unwrap());
    state.elements.push(Element {
        set: SetId::Masquerade(Family::V4),
        key: vec![subnet],
        data: vec![],
        owner: "net".into(),
    });
    let vip = Frontend { address: address("10.96.0.1"), protocol: Protocol::Tcp, port: 80 };
    state.serving = vec![Serving::Vip(vip.address), Serving::Service(vip, 2, false, "web".into())];
    for (slot, to) in (0..).zip(["10.88.0.2", "10.88.0.3"]) {
        state.serving.push(Serving::Endpoint(vip, slot, Backend { address: address(to), port: 80 }));
    }
    (state, around)
}

/// The steps as lines, and the end.
fn traced(scene: &mut (State, Rehearsed), source: &str, destination: &str) -> (String, End) {
    let (state, around) = scene;
    let target: Target = destination.parse().unwrap();
    let (from, to) = (found(state, source).unwrap(), found(state, &target.whom).unwrap());
    let packet = packet(state, around, from, to, target.port).unwrap();
    let mut walk = Walk::new(state, around);
    let end = walk.through(from, packet).unwrap();
    let lines: Vec<String> = walk.steps.iter().map(|step| format!("{}: {}", step.at, step.what)).collect();
    (lines.join("\n"), end)
}

fn delivered(to: &str) -> End {
    End::Delivered { to: to.into() }
}

#[test]
fn two_containers_of_a_bridge_meet_the_bridge_alone() {
    let mut scene = scene();
    let (steps, end) = traced(&mut scene, "a", "b:80");
    assert!(
        steps.contains("net/a: leaves by eth0 on link, from 10.88.0.2\nbridge br0: from port veth"),
        "{steps}"
    );
    assert_eq!(end, delivered("net/b at 10.88.0.3:80/tcp"));
    let (_, end) = traced(&mut scene, "a", "b:81");
    assert!(
        matches!(&end, End::Dropped { by, .. } if by == "net/b: nobody listens at 10.88.0.3:81/tcp"),
        "{end:?}"
    );
}

#[test]
fn a_published_port_names_its_element() {
    let mut scene = scene();
    let (steps, end) = traced(&mut scene, "198.51.100.7", "host:8080");
    assert_eq!(end, delivered("net/a at 10.88.0.2:80/tcp"), "{steps}");
    let (steps, end) = traced(&mut scene, "198.51.100.7", "192.0.2.1:8080");
    let element =
        "inet zeugma prerouting, published: published_any_ip has port 8080/tcp → 10.88.0.2:80 (net/a/eth0)";
    assert!(steps.contains(element) && steps.contains("inet zeugma forward: accepted"), "{steps}");
    assert_eq!(end, delivered("net/a at 10.88.0.2:80/tcp"));
    let (_, end) = traced(&mut scene, "198.51.100.7", "192.0.2.1:8081");
    assert!(
        matches!(&end, End::Dropped { by, .. } if by.contains("nobody listens at 192.0.2.1:8081")),
        "{end:?}"
    );
}

#[test]
fn a_virtual_address_names_its_service_and_its_endpoints() {
    let mut scene = scene();
    let (steps, end) = traced(&mut scene, "c", "web:80");
    assert!(steps.contains("vip-ip: service web → one of 10.88.0.2:80, 10.88.0.3:80"), "{steps}");
    assert_eq!(end, delivered("net/a at 10.88.0.2:80/tcp"));
    let (_, end) = traced(&mut scene, "c", "10.96.0.1:81");
    assert!(
        matches!(&end, End::Dropped { by, .. } if by.contains("no service has 10.96.0.1:81/tcp")),
        "{end:?}"
    );
}

#[test]
fn what_goes_outside_is_masqueraded() {
    let (steps, end) = traced(&mut scene(), "a", "198.51.100.7:443");
    assert!(
        steps
            .contains("inet zeugma postrouting: masqueraded: it goes on from 192.0.2.1 (masquerade_ip, net)"),
        "{steps}"
    );
    assert_eq!(end, delivered("the wire of eth0, next hop 192.0.2.2"));
}

#[test]
fn bridges_with_a_policy_do_not_meet() {
    let mut scene = scene();
    for bridge in ["br0", "br1"] {
        let key = vec![Value::Interface(bridge.parse().unwrap())];
        scene.0.elements.push(Element { set: SetId::Isolated, key, data: vec![], owner: "net".into() });
    }
    let (_, end) = traced(&mut scene, "a", "c:80");
    assert!(
        matches!(&end, End::Dropped { by, .. } if by == "inet zeugma forward: isolated has both br0 and br1"),
        "{end:?}"
    );
}

#[test]
fn a_host_that_does_not_forward_drops() {
    let mut scene = scene();
    scene.0.forwards = [false, true];
    let (_, end) = traced(&mut scene, "a", "198.51.100.7:443");
    let remedy = "sysctl -w net.ipv4.ip_forward=1".to_owned();
    assert_eq!(end, End::Dropped { by: "net.ipv4.ip_forward = 0".into(), remedy });
}

fn dropped_by(end: &End) -> &str {
    match end {
        End::Dropped { by, .. } => by,
        End::Delivered { to } => panic!("delivered to {to}"),
    }
}

/// An encrypted overlay 10.90.0.0/16 with its bridge and tunnel.
fn with_overlay(scene: &mut (State, Rehearsed)) {
    let subnet = || Value::Prefix("10.90.0.0/16".parse().unwrap());
    let mut put = |set: SetId, key: Vec<Value>| {
        scene.0.elements.push(Element { set, key, data: vec![], owner: "front".into() });
    };
    put(SetId::Claimed(Family::V4), vec![subnet()]);
    put(SetId::Sealed(Family::V4), vec![subnet()]);
    for way in ["br-front", "wg-front"] {
        put(SetId::Ways(Family::V4), vec![Value::Interface(way.parse().unwrap()), subnet()]);
    }
}

#[test]
fn an_encrypted_overlay_is_left_and_entered_by_its_ways_alone() {
    let mut scene = scene();
    with_overlay(&mut scene);
    let (_, end) = traced(&mut scene, "host", "10.90.2.9:80");
    let expected =
        "inet zeugma sealed: overlay front is encrypted, and 10.90.2.9 would leave in clear by eth0";
    assert_eq!(dropped_by(&end), expected);
    let (_, end) = traced(&mut scene, "10.90.2.9", "b:80");
    let expected =
        "inet zeugma claimed: 10.90.2.9 is of overlay front, and comes in by eth0, which is none of its ways";
    assert_eq!(dropped_by(&end), expected);
    let tunnel = Way::Out { link: "wg-front".parse().unwrap(), via: None, source: None, mtu: None };
    scene.1.host.insert(address("10.90.2.9"), tunnel);
    let (_, end) = traced(&mut scene, "host", "10.90.2.9:80");
    assert_eq!(end, delivered("the wire of wg-front"));
    let (_, end) = traced(&mut scene, "10.90.2.9", "b:80");
    assert_eq!(end, delivered("net/b at 10.88.0.3:80/tcp"));
}

#[test]
fn the_administrator_s_rules_come_before_policies() {
    let mut scene = scene();
    for bridge in ["br0", "br1"] {
        let key = vec![Value::Interface(bridge.parse().unwrap())];
        scene.0.elements.push(Element { set: SetId::Isolated, key, data: vec![], owner: "net".into() });
    }
    let rule = |verdict: &str| {
        let by_br1 = json!({"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "br1"}});
        json!([by_br1, {verdict: null}])
    };
    scene.0.filters = administered(&[rule("accept")]);
    let (steps, end) = traced(&mut scene, "a", "c:80");
    assert!(steps.contains("inet zeugma admin: accepted by a rule of the administrator"), "{steps}");
    assert_eq!(end, delivered("net/c at 10.88.1.2:80/tcp"));
    scene.0.filters = administered(&[rule("drop")]);
    let (_, end) = traced(&mut scene, "a", "c:80");
    assert_eq!(dropped_by(&end), "inet zeugma admin: a rule of the administrator");
}
