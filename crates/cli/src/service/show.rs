//! Services and endpoints as tables for people.

use serde::Serialize;
use zeugma_api::{EndpointView, ServiceView};
use zeugma_model::{
    EndpointState, Mode, Origin, PublishScope, PublishedPort, RolloutState, ServiceName, ServicePort,
};

use crate::table::table;

/// Digits of a container's ID in a table, as container engines show it.
const SHORT_ID: usize = 12;

/// An endpoint as the lists of them have it with `--json`: docs/reference/cli.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Endpoint {
    pub(crate) service: ServiceName,
    #[serde(flatten)]
    pub(crate) endpoint: EndpointView,
}

/// The endpoints of services.
pub(crate) fn endpoints_of(services: Vec<ServiceView>) -> Vec<Endpoint> {
    let of_one = |view: ServiceView| {
        let service = view.deployment.service.name;
        let with_name = move |endpoint| Endpoint { service: service.clone(), endpoint };
        view.endpoints.into_iter().map(with_name)
    };
    services.into_iter().flat_map(of_one).collect()
}

/// `service ls`.
pub(crate) fn services(views: &[ServiceView]) -> String {
    let rows: Vec<[String; 7]> = views.iter().map(service).collect();
    table(["NAME", "MODE", "VIPS", "PORTS", "PUBLISHED", "ENDPOINTS", "UPDATE"], &rows)
}

fn service(view: &ServiceView) -> [String; 7] {
    let service = &view.deployment.service;
    let ready = view.endpoints.iter().filter(|one| one.state == EndpointState::Ready).count();
    let (mode, vips) = match service.mode {
        Mode::Vip(vips) => ("vip", joined(vips.iter(), |vip| vip.to_string())),
        Mode::Dnsrr => ("dnsrr", String::new()),
    };
    [
        service.name.to_string(),
        mode.into(),
        vips,
        joined(&service.ports, port),
        joined(&service.published, published),
        format!("{ready}/{}", view.endpoints.len()),
        rollout(view),
    ]
}

/// `service ps` and `endpoint ls`.
pub(crate) fn endpoints(list: &[Endpoint]) -> String {
    let rows: Vec<[String; 7]> = list.iter().map(endpoint).collect();
    table(["SERVICE", "ADDRESS", "NODE", "WEIGHT", "STATE", "CONTAINER", "WHY"], &rows)
}

fn endpoint(Endpoint { service, endpoint }: &Endpoint) -> [String; 7] {
    let container = match &endpoint.origin {
        Origin::Added => String::new(),
        Origin::Container(id) => {
            let id = id.container.as_str();
            id.get(..SHORT_ID).unwrap_or(id).into()
        }
    };
    [
        service.to_string(),
        endpoint.address.to_string(),
        endpoint.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        endpoint.weight.get().to_string(),
        state(endpoint.state).into(),
        container,
        endpoint.why.clone().unwrap_or_default(),
    ]
}

/// A state's word.
fn state(state: EndpointState) -> &'static str {
    match state {
        EndpointState::Ready => "ready",
        EndpointState::Draining => "draining",
        EndpointState::Unhealthy => "unhealthy",
    }
}

/// How far an exchange of endpoints is; nothing when there is none.
pub(crate) fn rollout(view: &ServiceView) -> String {
    match &view.deployment.rollout {
        None => String::new(),
        Some(rollout) => match &rollout.state {
            RolloutState::Running => format!("step {}", rollout.step),
            RolloutState::Paused(why) => format!("paused: {why}"),
            RolloutState::Returning(why) => format!("going back: {why}"),
            RolloutState::Returned(why) => format!("went back: {why}"),
        },
    }
}

fn port(port: &ServicePort) -> String {
    let name = port.name.as_ref().map(|name| format!("{name}=")).unwrap_or_default();
    let target = port.target.map(|target| format!("->{target}")).unwrap_or_default();
    format!("{name}{}{target}/{}", port.port, port.protocol)
}

/// As Docker shows it, `*` for every address.
fn published(one: &PublishedPort) -> String {
    let scope = if one.scope == PublishScope::Local { " (local)" } else { "" };
    format!("*:{}->{}/{}{scope}", one.published, one.port, one.protocol)
}

fn joined<T>(parts: impl IntoIterator<Item = T>, shown: impl Fn(T) -> String) -> String {
    parts.into_iter().map(shown).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn view(keys: Value) -> ServiceView {
        let mut value =
            json!({"service": {"name": "web", "ports": [{"port": 80}]}, "revision": 1, "endpoints": []});
        value.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_service_is_a_line() {
        let endpoint = |address: &str, state: &str| json!({"address": address, "weight": 1, "state": state, "origin": "added"});
        let web = view(json!({
            "service": {"name": "web", "vips": ["10.96.0.1", "fd00::1"],
                "ports": [{"name": "http", "port": 80, "target": 8080}, {"port": 53, "protocol": "udp"}],
                "published": [{"published": 8080, "port": 80, "scope": "local"}]},
            "endpoints": [endpoint("10.88.0.2", "ready"), endpoint("10.88.0.3", "unhealthy")],
            "rollout": {"from": {}, "driver": "n1", "step": 2},
        }));
        let lines = [
            "NAME  MODE   VIPS               PORTS                      PUBLISHED                ENDPOINTS  UPDATE",
            "web   vip    10.96.0.1,fd00::1  http=80->8080/tcp,53/udp  *:8080->80/tcp (local)  1/2        step 2",
            "db    dnsrr  -                  80/tcp                     -                        0/0        -",
        ];
        let db = view(json!({"service": {"name": "db", "mode": "dnsrr", "ports": [{"port": 80}]}}));
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = services(&[web, db]);
        assert_eq!(shown.lines().map(squeezed).collect::<Vec<_>>(), lines.map(squeezed));
    }

    #[test]
    fn an_endpoint_says_why_it_is_not_ready_and_which_container_it_is() {
        let id = json!({"network": "front", "container": "0123456789abcdef", "ifname": "eth0"});
        let view = view(json!({"endpoints": [
            {"address": "10.88.0.2", "node": "n1", "weight": 3, "state": "unhealthy", "why": "refused",
             "origin": {"container": id}},
            {"address": "10.88.0.3", "weight": 1, "state": "ready", "origin": "added"},
        ]}));
        let listed = endpoints_of(vec![view]);
        assert_eq!(
            endpoints(&listed),
            "SERVICE  ADDRESS    NODE  WEIGHT  STATE      CONTAINER     WHY\n\
             web      10.88.0.2  n1    3       unhealthy  0123456789ab  refused\n\
             web      10.88.0.3  -     1       ready      -             -\n"
        );
        let json = serde_json::to_value(&listed[1]).unwrap();
        assert_eq!(json["service"], "web");
        assert_eq!(json["origin"], "added");
    }

    #[test]
    fn an_exchange_that_stopped_says_why() {
        let paused =
            json!({"from": {}, "driver": "n1", "step": 2, "state": {"paused": "10.88.0.2: refused"}});
        assert_eq!(rollout(&view(json!({"rollout": paused}))), "paused: 10.88.0.2: refused");
    }
}
