//! What is promised of who serves.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zeugma_model::{AttachmentId, Deployment, EndpointState, RegisteredEndpoint, RolloutState, ServiceName};

use super::{Candidate, Check, Roster, Standing, Verdict};

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
fn who_lost_its_labels_before_it_went_is_gone_all_the_same() {
    let mut world = World::new();
    world.service(json!({"drain_seconds": 30})).container(1, &["app=a"]).check("1");
    world.container(1, &[]).check("1-draining");
    world.roster.remove_candidate(&attachment("c1"));
    assert_eq!(world.take(), ["web"]);
    world.check("");
}

#[test]
fn without_draining_who_leaves_is_gone() {
    let mut world = World::new();
    world.service(json!({})).endpoint(1, json!({})).check("1");
    world.roster.remove_endpoint(&web(), address(1));
    world.check("");
}

#[test]
fn who_is_unhealthy_has_nothing_to_drain() {
    let mut world = World::new();
    world.service(json!({"drain_seconds": 30})).endpoint(1, json!({})).check("1");
    world.endpoint(1, json!({"endpoint": {"state": "unhealthy"}}));
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
fn another_container_at_the_same_address_is_asked_anew() {
    let mut world = World::new();
    world
        .service(checked())
        .container(1, &["app=a"])
        .check("1-unhealthy")
        .judge(1, Verdict::Healthy)
        .check("1");
    world.roster.remove_candidate(&attachment("c1"));
    let labels = BTreeSet::from([("app".into(), "a".into())]);
    let other = Candidate { attachment: attachment("other"), addresses: vec![address(1)], labels };
    world.roster.put_candidate(other, world.now);
    world.check("");
    assert_eq!(world.roster.next_change(), Some(world.now));
    world.check("1-unhealthy");
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
fn who_was_ill_when_an_agent_begins_anew_is_asked_first() {
    let mut world = World { roster: Roster::new("n1".parse().unwrap()), now: Instant::now() };
    world.roster.put_served([(web(), [address(1)].into())].into());
    world
        .service(checked())
        .container(1, &["app=a"])
        .container(2, &["app=a"])
        .check("1 2-unhealthy")
        .judge(2, Verdict::Healthy)
        .check("1 2");
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

/// An exchange from `app=a` to `app=b` that begins now.
fn update(world: &mut World, keys: Value) {
    let before = world.roster.deployment(&web()).unwrap();
    let mut to = serde_json::to_value(&before.service).unwrap();
    to["selector"] = json!({"app": "b"});
    to.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let to = serde_json::from_value(to).unwrap();
    world.roster.put_service(crate::updated(&before, to, &"n1".parse().unwrap()), world.now);
    world.take();
}

/// Takes all steps that are due by now; says for how many seconds the next one waits.
fn drive(world: &mut World) -> Option<u64> {
    for _ in 0..99 {
        world.take();
        match world.roster.standing(&web(), world.now)? {
            Standing::Wait(until) => return until.map(|until| (until - world.now).as_secs()),
            Standing::Write(deployment) => world.roster.put_service(*deployment, world.now),
        }
    }
    panic!("an exchange without end");
}

fn state(world: &World) -> Option<RolloutState> {
    world.roster.deployment(&web()).unwrap().rollout.map(|rollout| rollout.state)
}

/// Two old containers, two new ones.
fn two_and_two(keys: Value) -> World {
    let mut world = World::new();
    world.service(keys).container(1, &["app=a"]).container(2, &["app=a"]);
    world.container(3, &["app=b"]).container(4, &["app=b"]).check("1 2");
    world
}

#[test]
fn an_update_goes_step_by_step_and_ends_after_the_last_was_watched() {
    let mut world = two_and_two(json!({"update": {"delay_seconds": 10}}));
    update(&mut world, json!({}));
    world.check("1 2");
    assert_eq!(drive(&mut world), Some(10));
    world.check("1 2 3").pass(10);
    assert_eq!(drive(&mut world), Some(10));
    world.check("2 3 4").pass(10);
    assert_eq!(drive(&mut world), Some(5));
    world.check("3 4").pass(5);
    assert_eq!((drive(&mut world), state(&world)), (None, None));
    world.check("3 4");
}

#[test]
fn old_endpoints_leave_once_new_ones_are_healthy() {
    let mut world = two_and_two(json!({}));
    update(&mut world, checked());
    assert_eq!(drive(&mut world), None);
    world.check("1 2 3-unhealthy").pass(1000);
    assert_eq!(drive(&mut world), None);
    world.judge(3, Verdict::Healthy);
    drive(&mut world);
    world.check("2 3 4-unhealthy").judge(4, Verdict::Healthy);
    drive(&mut world);
    world.check("3 4");
}

#[test]
fn a_failed_update_pauses_with_everybody_who_served_at_work() {
    let mut world = two_and_two(json!({"update": {"parallelism": 0}}));
    update(&mut world, checked());
    drive(&mut world);
    world.judge(3, Verdict::Healthy).judge(4, ill());
    drive(&mut world);
    world.check("1 2 3 4-unhealthy");
    assert_eq!(state(&world), Some(RolloutState::Paused("10.88.0.4: connection refused".into())));
    world.judge(4, Verdict::Healthy);
    update(&mut world, checked());
    drive(&mut world);
    world.check("3 4");
}

#[test]
fn a_failed_update_goes_back_and_says_why() {
    let mut world = two_and_two(json!({"update": {"on_failure": "rollback"}}));
    update(&mut world, checked());
    drive(&mut world);
    world.judge(3, Verdict::Healthy);
    drive(&mut world);
    world.check("2 3 4-unhealthy").judge(4, ill());
    drive(&mut world);
    world.pass(5);
    drive(&mut world);
    world.check("1 2");
    assert_eq!(state(&world), Some(RolloutState::Returned("10.88.0.4: connection refused".into())));
    assert_eq!(world.roster.deployment(&web()).unwrap().service.selector.0["app"], "a");
}

#[test]
fn a_tolerant_update_goes_on_but_not_to_nobody() {
    let mut world = two_and_two(json!({"update": {"on_failure": "continue"}}));
    update(&mut world, checked());
    drive(&mut world);
    world.judge(3, ill());
    drive(&mut world);
    world.check("1 2 3-unhealthy 4-unhealthy").judge(4, ill());
    drive(&mut world);
    world.check("1 2 3-unhealthy 4-unhealthy");
    assert!(matches!(state(&world), Some(RolloutState::Paused(_))));
}

#[test]
fn an_update_to_nobody_pauses_after_it_was_watched() {
    let mut world = World::new();
    world.service(json!({})).container(1, &["app=a"]).check("1");
    update(&mut world, json!({}));
    assert_eq!(drive(&mut world), Some(5));
    world.pass(5);
    drive(&mut world);
    assert_eq!(state(&world), Some(RolloutState::Paused("no endpoint matches app=b".into())));
    world.check("1").container(2, &["app=b"]);
    update(&mut world, json!({}));
    drive(&mut world);
    world.pass(5);
    assert_eq!((drive(&mut world), state(&world)), (None, None));
    world.check("2");
}

#[test]
fn an_update_from_nobody_is_over_at_once() {
    let mut world = World::new();
    world.service(json!({})).container(2, &["app=b"]).container(3, &["app=b"]).check("");
    update(&mut world, json!({}));
    assert_eq!((drive(&mut world), state(&world)), (None, None));
    world.check("2 3");
}

#[test]
fn containers_removed_as_soon_as_they_left_do_not_hurry_the_update() {
    let mut world = two_and_two(json!({"update": {"delay_seconds": 10}}));
    update(&mut world, json!({}));
    drive(&mut world);
    world.pass(10);
    drive(&mut world);
    world.check("2 3 4");
    world.roster.remove_candidate(&attachment("c1"));
    world.check("2 3 4");
}

#[test]
fn an_old_endpoint_returns_when_its_successor_fails() {
    let mut world = World::new();
    world.service(checked()).container(1, &["app=a"]).container(2, &["app=b"]);
    world.check("1-unhealthy").judge(1, Verdict::Healthy).check("1");
    update(&mut world, json!({}));
    drive(&mut world);
    world.judge(2, Verdict::Healthy);
    drive(&mut world);
    world.check("2").judge(2, ill()).check("1 2-unhealthy").judge(1, ill()).check("1-unhealthy 2-unhealthy");
}

#[test]
fn with_stop_first_the_new_one_joins_when_the_old_one_has_drained() {
    let mut world = World::new();
    world.service(json!({"drain_seconds": 20, "update": {"order": "stop-first"}}));
    world.container(1, &["app=a"]).container(2, &["app=b"]).check("1");
    update(&mut world, json!({}));
    drive(&mut world);
    world.check("1-draining").pass(20).check("2");
    assert_eq!(drive(&mut world), Some(5));
    world.pass(5);
    assert_eq!((drive(&mut world), state(&world)), (None, None));
}

#[test]
fn with_stop_first_nobody_waits_for_who_has_nothing_to_drain() {
    let mut world = World::new();
    world.service(
        json!({"drain_seconds": 20, "update": {"order": "stop-first"}, "health": checked()["health"]}),
    );
    world.container(1, &["app=a"]).container(2, &["app=b"]).check("1-unhealthy");
    update(&mut world, json!({}));
    drive(&mut world);
    world.check("2-unhealthy").judge(2, Verdict::Healthy).check("2");
}

#[test]
fn other_nodes_take_no_steps() {
    let mut world = two_and_two(json!({}));
    let rollout = json!({"from": {"app": "a"}, "driver": "n2", "step": 1});
    world.deploy(json!({"service": {"selector": {"app": "b"}}, "rollout": rollout})).check("1 2");
    assert_eq!(world.roster.standing(&web(), world.now), Some(Standing::Wait(None)));
}
