//! What is promised of who serves.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zeugma_model::{AttachmentId, Deployment, EndpointState, RegisteredEndpoint, ServiceName};

use super::{Candidate, Check, Roster, Verdict};

/// A roster with a clock of its own.
struct World {
    roster: Roster,
    now: Instant,
}

fn attachment(name: &str) -> AttachmentId {
    AttachmentId {
        network: "front".parse().unwrap(),
        container: name.parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 88, 0, last])
}

fn web() -> ServiceName {
    "web".parse().unwrap()
}

impl World {
    /// An agent that has been running for a while.
    fn new() -> Self {
        let mut world = Self { roster: Roster::new("n1".parse().unwrap()), now: Instant::now() };
        world.take();
        world
    }

    fn take(&mut self) -> Vec<String> {
        self.roster.take_changed(self.now).iter().map(ToString::to_string).collect()
    }

    fn pass(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    fn service(&mut self, keys: Value) -> &mut Self {
        self.deploy(json!({"service": keys}))
    }

    fn deploy(&mut self, mut text: Value) -> &mut Self {
        let service = text["service"].as_object_mut().unwrap();
        service.entry("name").or_insert(json!("web"));
        service.entry("selector").or_insert(json!({"app": "a"}));
        let deployment: Deployment = serde_json::from_value(text).unwrap();
        self.roster.put_service(deployment, self.now);
        self
    }

    /// A container `c` and its number, with labels written as `app=a`.
    fn container(&mut self, last: u8, labels: &[&str]) -> &mut Self {
        let label =
            |label: &&str| label.split_once('=').map(|(key, value)| (key.into(), value.into())).unwrap();
        let labels: BTreeSet<(String, String)> = labels.iter().map(label).collect();
        let attachment = attachment(&format!("c{last}"));
        self.roster.put_candidate(Candidate { attachment, addresses: vec![address(last)], labels }, self.now);
        self
    }

    fn endpoint(&mut self, last: u8, mut keys: Value) -> &mut Self {
        let mut endpoint = json!({"address": address(last)});
        if let Some(own) = keys.as_object_mut().unwrap().remove("endpoint") {
            endpoint.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        }
        keys["service"] = json!("web");
        keys["endpoint"] = endpoint;
        let endpoint: RegisteredEndpoint = serde_json::from_value(keys).unwrap();
        self.roster.put_endpoint(endpoint, self.now);
        self
    }

    fn judge(&mut self, last: u8, verdict: Verdict) -> &mut Self {
        let check = Check { service: web(), address: address(last) };
        self.roster.judge(&check, verdict, self.now);
        self
    }

    /// `1 3-draining`: last bytes of addresses, with states other than ready.
    fn check(&mut self, expected: &str) -> &mut Self {
        self.take();
        let Some(crew) = self.roster.crew(&web()) else { panic!("no service") };
        let member = |(address, member): (&IpAddr, &super::Member)| {
            let IpAddr::V4(v4) = address else { panic!("{address}") };
            assert_eq!(member.why.is_none(), member.endpoint.state == EndpointState::Ready);
            match member.endpoint.state {
                EndpointState::Ready => v4.octets()[3].to_string(),
                state => format!("{}-{}", v4.octets()[3], format!("{state:?}").to_lowercase()),
            }
        };
        let text: Vec<String> = crew.members.iter().map(member).collect();
        assert_eq!(text.join(" "), expected);
        self
    }

    fn why(&self, last: u8) -> String {
        self.roster.crew(&web()).unwrap().members[&address(last)].why.clone().unwrap()
    }
}

fn ill() -> Verdict {
    Verdict::Unhealthy("connection refused".into())
}

fn checked() -> Value {
    json!({"health": {"probe": {"tcp": {"port": 80}}}})
}

#[test]
fn containers_serve_when_all_labels_match_on_a_network_of_the_service() {
    let mut world = World::new();
    world.service(json!({"selector": {"app": "a", "zeugma.alias": "x"}, "networks": ["front"]}));
    world.container(1, &["app=a", "zeugma.alias=x", "zeugma.alias=y"]).container(2, &["app=a"]).check("1");
    world.container(2, &["app=a", "zeugma.alias=x"]).container(1, &["app=b"]).check("2");
    world.service(json!({"networks": ["back"]})).check("");
    world.service(json!({"networks": []})).check("2");
    world.service(json!({"selector": {}})).check("");
}

#[test]
fn added_endpoints_serve_unless_their_labels_say_otherwise() {
    let mut world = World::new();
    world.service(json!({})).endpoint(1, json!({})).endpoint(2, json!({"labels": {"app": "b"}})).check("1");
    world.service(json!({"selector": {}})).check("1 2");
}

#[test]
fn an_added_endpoint_overrules_the_container_at_its_address_until_it_goes() {
    let mut world = World::new();
    world.service(json!({})).container(1, &["app=a"]);
    world.endpoint(1, json!({"endpoint": {"state": "draining"}})).check("1-draining");
    world.roster.remove_endpoint(&web(), address(1));
    world.check("1");
}

#[test]
fn endpoints_may_come_before_their_service_and_outlive_it() {
    let mut world = World::new();
    world.endpoint(1, json!({}));
    assert_eq!(world.take(), [""; 0]);
    world.service(json!({})).check("1");
    world.roster.remove_service(&web());
    assert_eq!((world.take(), world.roster.workload(&web())), (vec!["web".into()], None));
    world.service(json!({})).check("1");
}

#[test]
fn only_what_is_different_is_told() {
    let mut world = World::new();
    world
        .service(json!({"name": "other", "selector": {"app": "b"}}))
        .service(json!({}))
        .container(1, &["app=a"]);
    assert_eq!(world.take(), ["other", "web"]);
    world.container(1, &["app=a"]).service(json!({}));
    assert_eq!(world.take(), [""; 0]);
    world.container(1, &["app=a", "x=y"]);
    assert_eq!(world.take(), [""; 0]);
    world.container(1, &["app=b"]);
    assert_eq!(world.take(), ["other", "web"]);
}

#[test]
fn who_leaves_by_decision_drains_and_who_is_gone_does_not() {
    let mut world = World::new();
    world.service(json!({"drain_seconds": 30})).endpoint(1, json!({})).container(2, &["app=a"]);
    world.container(3, &["app=a"]).check("1 2 3");
    world.roster.remove_endpoint(&web(), address(1));
    world.roster.remove_candidate(&attachment("c3"));
    world.container(2, &["app=b"]).check("1-draining 2-draining");
    assert_eq!(world.roster.next_change(), Some(world.now + Duration::from_secs(30)));
    world.pass(20).container(2, &["app=a"]).check("1-draining 2");
    world.pass(10).check("2");
    assert_eq!(world.roster.next_change(), None);
}

#[test]
fn without_draining_who_leaves_is_gone() {
    let mut world = World::new();
    world.service(json!({})).endpoint(1, json!({})).check("1");
    world.roster.remove_endpoint(&web(), address(1));
    world.check("");
}

#[test]
fn marked_endpoints_drain_for_as_long_as_they_are_marked() {
    let mut world = World::new();
    world.service(json!({})).endpoint(1, json!({})).check("1");
    world.endpoint(1, json!({"endpoint": {"state": "draining"}})).check("1-draining");
    world.pass(1000).check("1-draining");
    world.endpoint(1, json!({})).check("1");
}

#[test]
fn new_endpoints_of_a_checked_service_wait_for_their_first_success() {
    let mut world = World::new();
    world.service(checked()).container(1, &["app=a"]).check("1-unhealthy");
    assert_eq!(world.why(1), "its health check has not answered yet");
    world.judge(1, Verdict::Healthy).check("1").judge(1, ill()).check("1-unhealthy");
    assert_eq!(world.why(1), "connection refused");
}

#[test]
fn who_served_before_the_check_serves_until_it_fails() {
    let mut world = World::new();
    world.service(json!({})).container(1, &["app=a"]).check("1");
    world.service(checked()).check("1").judge(1, ill()).check("1-unhealthy");
    world.service(json!({})).check("1");
}

#[test]
fn an_agent_that_begins_anew_leaves_everybody_at_work() {
    let mut world = World { roster: Roster::new("n1".parse().unwrap()), now: Instant::now() };
    world
        .service(checked())
        .container(1, &["app=a"])
        .check("1")
        .container(2, &["app=a"])
        .check("1 2-unhealthy");
}

#[test]
fn other_nodes_judge_their_own_containers() {
    let mut world = World::new();
    let origin = json!({"container": {"network": "front", "container": "c1", "ifname": "eth0"}});
    world
        .service(checked())
        .endpoint(1, json!({"origin": origin}))
        .endpoint(2, json!({}))
        .check("1 2-unhealthy");
    let (_, checks) = world.roster.checks(&web()).unwrap();
    assert_eq!(checks, [Check { service: web(), address: address(2) }]);
}
