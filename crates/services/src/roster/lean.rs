//! A deployment in little memory: tens of thousands are kept, and maps of maps would take most of it.

use zeugma_model::{
    Affinity, Deployment, HealthCheck, Mode, NetworkName, PublishedPort, Rollout, Selector, Service,
    ServiceName, ServicePort, TrafficPolicy, UpdatePolicy,
};

type Pairs = Box<[(Box<str>, Box<str>)]>;

/// All of a deployment but the service's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lean {
    pub(super) networks: Box<[NetworkName]>,
    selector: Pairs,
    labels: Pairs,
    mode: Mode,
    ports: Box<[ServicePort]>,
    published: Box<[PublishedPort]>,
    affinity: Option<Affinity>,
    traffic: TrafficPolicy,
    pub(super) health: Option<Box<HealthCheck>>,
    pub(super) drain_seconds: u32,
    pub(super) update: UpdatePolicy,
    previous: Option<Box<Service>>,
    pub(super) rollout: Option<Box<Rollout>>,
}

impl Lean {
    pub(super) fn new(deployment: Deployment) -> Self {
        let Deployment { service, previous, rollout } = deployment;
        Self {
            networks: service.networks.into_iter().collect(),
            selector: pairs(service.selector.0),
            labels: pairs(service.labels),
            mode: service.mode,
            ports: service.ports.into(),
            published: service.published.into(),
            affinity: service.affinity,
            traffic: service.traffic,
            health: service.health.map(Box::new),
            drain_seconds: service.drain_seconds,
            update: service.update,
            previous,
            rollout: rollout.map(Box::new),
        }
    }

    pub(super) fn service(&self, name: &ServiceName) -> Service {
        Service {
            name: name.clone(),
            networks: self.networks.iter().cloned().collect(),
            selector: self.selector(),
            labels: map(&self.labels),
            mode: self.mode,
            ports: self.ports.to_vec(),
            published: self.published.to_vec(),
            affinity: self.affinity,
            traffic: self.traffic,
            health: self.health.as_deref().cloned(),
            drain_seconds: self.drain_seconds,
            update: self.update,
        }
    }

    pub(super) fn deployment(&self, name: &ServiceName) -> Deployment {
        Deployment {
            service: self.service(name),
            previous: self.previous.clone(),
            rollout: self.rollout.as_deref().cloned(),
        }
    }

    pub(super) fn selector(&self) -> Selector {
        Selector(map(&self.selector))
    }
}

fn pairs(map: impl IntoIterator<Item = (String, String)>) -> Pairs {
    map.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

fn map(pairs: &Pairs) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_of_a_deployment_is_lost() {
        let service = json!({
            "name": "web", "networks": ["front"], "vips": ["10.96.0.1"], "ports": [{"port": 80, "name": "http"}],
            "published": [{"published": 8080, "port": 80}], "affinity": {"timeout_seconds": 600},
            "traffic": "local-only", "health": {"probe": {"tcp": {"port": 80}}}, "drain_seconds": 3,
            "selector": {"app": "a", "tier": "b"}, "labels": {"x": "y"}, "update": {"parallelism": 2}
        });
        let rollout = json!({"from": {"app": "b"}, "driver": "n1", "step": 2});
        let text = json!({"service": service, "previous": service, "rollout": rollout});
        let deployment: Deployment = serde_json::from_value(text).unwrap();
        assert_eq!(Lean::new(deployment.clone()).deployment(&deployment.service.name), deployment);
    }
}
