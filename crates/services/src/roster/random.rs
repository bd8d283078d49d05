//! What holds of any sequence of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;
use zeugma_model::{AttachmentId, Deployment, EndpointState, NodeName, RegisteredEndpoint, ServiceName};

use super::{Candidate, Check, Crew, Roster, Standing, Verdict};

/// What is true of the world, and what is said about it.
#[derive(Default)]
struct Truth {
    services: BTreeMap<u8, Deployment>,
    containers: BTreeMap<u8, Candidate>,
    endpoints: BTreeMap<(u8, u8), RegisteredEndpoint>,
    ill: BTreeSet<u8>,
}

#[derive(Debug, Clone)]
enum Change {
    Service(u8, Option<(u8, Option<u8>, bool, u32)>),
    Container(u8, Option<u8>),
    Endpoint(u8, u8, Option<(Option<u8>, &'static str, bool)>),
    Falls(u8, bool),
    Passes(u64),
}

fn node() -> NodeName {
    "n1".parse().unwrap()
}

fn name(service: u8) -> ServiceName {
    format!("s{service}").parse().unwrap()
}

fn address(last: u8) -> IpAddr {
    // Both families, and in both the same order.
    if last.is_multiple_of(2) {
        IpAddr::from([10, 88, 0, last])
    } else {
        format!("fd00::{last}").parse().unwrap()
    }
}

fn attachment(last: u8) -> AttachmentId {
    let container = format!("c{last}").parse().unwrap();
    AttachmentId { network: "front".parse().unwrap(), container, ifname: "eth0".parse().unwrap() }
}

fn deployment(number: u8, (app, from, is_checked, drain): (u8, Option<u8>, bool, u32)) -> Deployment {
    let mut service =
        json!({"name": name(number), "selector": {"app": app.to_string()}, "drain_seconds": drain});
    if is_checked {
        service["health"] = json!({"probe": {"tcp": {"port": 80}}});
    }
    let mut text = json!({"service": service});
    if let Some(from) = from {
        let reach = json!({"joined": {"v4": "10.88.0.6", "v6": "fd00::5"}, "left": {"v4": "10.88.0.4"}});
        text["rollout"] =
            json!({"from": {"app": from.to_string()}, "driver": "n2", "step": 2, "reach": reach});
    }
    serde_json::from_value(text).unwrap()
}

fn candidate(last: u8, app: u8) -> Candidate {
    let labels = BTreeSet::from([("app".into(), app.to_string()), ("x".into(), "y".into())]);
    Candidate { attachment: attachment(last), addresses: vec![address(last)], labels }
}

fn endpoint(service: u8, last: u8, (app, state, is_remote): (Option<u8>, &str, bool)) -> RegisteredEndpoint {
    let labels: BTreeMap<&str, String> = app.iter().map(|app| ("app", app.to_string())).collect();
    let mut text = json!({
        "service": name(service), "labels": labels, "endpoint": {"address": address(last), "state": state}
    });
    if is_remote {
        text["origin"] = json!({"container": attachment(last)});
    }
    serde_json::from_value(text).unwrap()
}

fn change() -> impl Strategy<Value = Change> {
    let service = prop::option::weighted(0.8, (0_u8..3, prop::option::of(0_u8..3), any::<bool>(), 0_u32..30));
    let state = prop::sample::select(vec!["ready", "ready", "draining", "unhealthy"]);
    let endpoint = prop::option::weighted(0.7, (prop::option::of(0_u8..3), state, any::<bool>()));
    prop_oneof![
        (0_u8..3, service).prop_map(|(number, service)| Change::Service(number, service)),
        (1_u8..9, prop::option::weighted(0.7, 0_u8..3)).prop_map(|(last, app)| Change::Container(last, app)),
        (0_u8..3, 1_u8..9, endpoint)
            .prop_map(|(number, last, endpoint)| Change::Endpoint(number, last, endpoint)),
        (1_u8..9, any::<bool>()).prop_map(|(last, is_ill)| Change::Falls(last, is_ill)),
        (0_u64..40).prop_map(Change::Passes),
    ]
}

impl Truth {
    fn apply(&mut self, roster: &mut Roster, change: &Change, now: &mut Instant) {
        match change.clone() {
            Change::Service(number, Some(keys)) => {
                self.services.insert(number, deployment(number, keys));
                roster.put_service(deployment(number, keys), *now);
            }
            Change::Service(number, None) => {
                self.services.remove(&number);
                roster.remove_service(&name(number));
            }
            Change::Container(last, Some(app)) => {
                self.containers.insert(last, candidate(last, app));
                roster.put_candidate(candidate(last, app), *now);
            }
            Change::Container(last, None) => {
                self.containers.remove(&last);
                roster.remove_candidate(&attachment(last));
            }
            Change::Endpoint(number, last, Some(keys)) => {
                self.endpoints.insert((number, last), endpoint(number, last, keys));
                roster.put_endpoint(endpoint(number, last, keys), *now);
            }
            Change::Endpoint(number, last, None) => {
                self.endpoints.remove(&(number, last));
                roster.remove_endpoint(&name(number), address(last));
            }
            Change::Falls(last, true) => drop(self.ill.insert(last)),
            Change::Falls(last, false) => drop(self.ill.remove(&last)),
            Change::Passes(seconds) => *now += Duration::from_secs(seconds),
        }
    }

    fn told_at_once(&self, now: Instant) -> Roster {
        let mut roster = Roster::new(node());
        self.services.values().for_each(|service| roster.put_service(service.clone(), now));
        self.containers.values().for_each(|container| roster.put_candidate(container.clone(), now));
        self.endpoints.values().for_each(|endpoint| roster.put_endpoint(endpoint.clone(), now));
        roster
    }

    /// Asks everybody until nothing is different, once everybody has drained.
    fn settle(&self, roster: &mut Roster, mut now: Instant) -> BTreeMap<u8, Option<Crew>> {
        for _ in 0..4 {
            now += Duration::from_secs(100);
            roster.take_changed(now);
            let checks = (0..3).filter_map(|number| roster.checks(&name(number)));
            for check in checks.flat_map(|(_, checks)| checks).collect::<Vec<_>>() {
                roster.judge(&check, self.verdict(check.address), now);
            }
        }
        assert_eq!(roster.take_changed(now), BTreeSet::new());
        (0..3).map(|number| (number, roster.crew(&name(number)))).collect()
    }

    fn verdict(&self, asked: IpAddr) -> Verdict {
        match self.ill.iter().any(|last| address(*last) == asked) {
            true => Verdict::Unhealthy("ill".into()),
            false => Verdict::Healthy,
        }
    }
}

fn has_ready(roster: &Roster) -> bool {
    let endpoints = roster.workload(&name(0)).unwrap().endpoints;
    endpoints.iter().any(|endpoint| endpoint.state == EndpointState::Ready)
}

/// The containers of app 0 are well and say so when they are asked.
fn ask_the_first(roster: &mut Roster, now: Instant) {
    roster.take_changed(now);
    for last in (2..40).step_by(6) {
        roster.judge(&Check { service: name(0), address: address(last) }, Verdict::Healthy, now);
    }
    roster.take_changed(now);
}

proptest! {
    #[test]
    fn what_was_told_bit_by_bit_is_as_if_told_at_once(changes in prop::collection::vec((change(), any::<bool>()), 0..40)) {
        let (mut truth, mut now) = (Truth::default(), Instant::now());
        let mut roster = Roster::new(node());
        for (change, is_looked_at) in changes {
            truth.apply(&mut roster, &change, &mut now);
            if is_looked_at {
                roster.take_changed(now);
            }
        }
        let later = now + Duration::from_secs(1000);
        roster.take_changed(now);
        let told = truth.settle(&mut roster, later);
        prop_assert_eq!(told, truth.settle(&mut truth.told_at_once(later), later));
        prop_assert_eq!(roster.next_change(), None);
    }

    #[test]
    fn what_changes_is_told(changes in prop::collection::vec(change(), 0..40)) {
        let (mut truth, mut now) = (Truth::default(), Instant::now());
        let mut roster = Roster::new(node());
        let crews = |roster: &Roster| -> Vec<_> {
            (0..3).map(|number| (roster.deployment(&name(number)), roster.crew(&name(number)))).collect()
        };
        let mut before = crews(&roster);
        for change in changes {
            truth.apply(&mut roster, &change, &mut now);
            let changed = roster.take_changed(now);
            let after = crews(&roster);
            for (number, (before, after)) in (0..).zip(before.iter().zip(&after)) {
                prop_assert!(before == after || changed.contains(&name(number)), "s{} changed untold", number);
            }
            before = after;
        }
    }

    /// New containers come, go, fall ill and recover; updates overtake one another and are rolled back. The first
    /// set is well: somebody serves until an exchange is over.
    #[test]
    fn an_exchange_never_goes_to_nobody(
        parallelism in 0_u32..4,
        on_failure in prop::sample::select(vec!["pause", "rollback", "continue"]),
        old in 1_u8..6,
        moments in prop::collection::vec((0_u8..9, 1_u8..3, 0_u8..6), 1..80),
    ) {
        let mut now = Instant::now();
        let mut roster = Roster::new(node());
        let service = |app: u8| serde_json::from_value(json!({
            "name": "s0", "selector": {"app": app.to_string()}, "health": {"probe": {"tcp": {"port": 80}}},
            "update": {"parallelism": parallelism, "on_failure": on_failure}
        })).unwrap();
        // All of one family, the sets among one another.
        let place = |app: u8, which: u8| 6 * which + 2 * app + 2;
        let before = Deployment { service: service(0), previous: None, rollout: None };
        roster.put_service(before.clone(), now);
        (0..old).for_each(|which| roster.put_candidate(candidate(place(0, which), 0), now));
        roster.take_changed(now);
        roster.put_service(crate::updated(&before, service(1), &node()), now);
        for (kind, app, which) in moments {
            let deployment = roster.deployment(&name(0)).unwrap();
            if deployment.exchange().is_none() {
                break;
            }
            let check = Check { service: name(0), address: address(place(app, which)) };
            match kind {
                0..2 => now += Duration::from_secs(3),
                2..4 => roster.judge(&check, Verdict::Healthy, now),
                4 => roster.judge(&check, Verdict::Unhealthy("ill".into()), now),
                5 | 6 => roster.put_candidate(candidate(place(app, which), app), now),
                7 => roster.remove_candidate(&attachment(place(app, which))),
                _ if which > 0 => roster.put_service(crate::updated(&deployment, service(app), &node()), now),
                _ => crate::rolled_back(&deployment, &node()).into_iter().for_each(|back| roster.put_service(back, now)),
            }
            ask_the_first(&mut roster, now);
            prop_assert!(has_ready(&roster), "{:?}", roster.deployment(&name(0)).unwrap().rollout);
            if let Some(Standing::Write(next)) = roster.standing(&name(0), now) {
                roster.put_service(*next, now);
                ask_the_first(&mut roster, now);
                prop_assert!(has_ready(&roster), "{:?}", roster.deployment(&name(0)).unwrap().rollout);
            }
        }
    }
}
