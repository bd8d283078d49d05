//! A service over time, as the catalogue keeps it: who is to serve, how one set of endpoints takes another's place,
//! and who was added by hand. How far an exchange has come is decided in `services`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::{AttachmentId, Endpoint, NodeName, Service, ServiceName};

/// Labels that all have to be there, with these values.
///
/// Two are made of names: `zeugma.name` is a name of the container's own, `zeugma.alias` one of its aliases.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Selector(pub BTreeMap<String, String>);

impl Selector {
    /// The label that stands for a container's own names.
    pub const NAME: &str = "zeugma.name";
    /// The label that stands for its aliases.
    pub const ALIAS: &str = "zeugma.alias";

    /// Whether it selects nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How endpoints are exchanged: the words and defaults are Docker's, where it has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdatePolicy {
    /// Endpoints exchanged at once; 0: all. 1 unless given.
    pub parallelism: u32,
    /// Seconds between two steps. 0 unless given.
    pub delay_seconds: u32,
    /// Seconds for which new endpoints are watched after they joined. 5 unless given.
    pub monitor_seconds: u32,
    /// What happens when a new endpoint fails meanwhile. Pause unless given.
    pub on_failure: FailureAction,
    /// Whether the new endpoint comes before the old one leaves. It does unless told otherwise.
    pub order: UpdateOrder,
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        let (on_failure, order) = (FailureAction::default(), UpdateOrder::default());
        Self { parallelism: 1, delay_seconds: 0, monitor_seconds: 5, on_failure, order }
    }
}

impl UpdatePolicy {
    /// Whether nothing was given.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens when an endpoint fails during an exchange.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureAction {
    /// It stops where it is, until somebody updates again or rolls back.
    #[default]
    Pause,
    /// It goes back to the endpoints before.
    Rollback,
    /// It goes on.
    Continue,
}

/// Which comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The new endpoint takes flows before the old one stops.
    #[default]
    StartFirst,
    /// The old one stops first.
    StopFirst,
}

/// A service with its past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// As it is to be.
    pub service: Service,
    /// As it was before the last update: what a rollback returns to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<Service>>,
    /// The exchange of endpoints that is under way, or that failed and went back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

impl Deployment {
    /// The exchange of endpoints that is not over.
    pub fn exchange(&self) -> Option<&Rollout> {
        self.rollout.as_ref().filter(|rollout| !matches!(rollout.state, RolloutState::Returned(_)))
    }
}

/// An exchange of endpoints, from those of `from` to those of the service's selector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Who served before.
    pub from: Selector,
    /// Exchanges that came after `from` and were not finished when the next update came, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<Overtaken>,
    /// The node that takes the steps; the others follow what it writes.
    pub driver: NodeName,
    /// Which step it is at, each of as many endpoints as the policy says.
    pub step: NonZeroU32,
    /// Who was exchanged by now.
    #[serde(default, skip_serializing_if = "Reach::is_nobody")]
    pub reach: Reach,
    /// Whether it goes on.
    #[serde(default)]
    pub state: RolloutState,
}

/// An exchange that another update overtook: how far it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overtaken {
    /// Who was to serve.
    pub to: Selector,
    /// Who was exchanged.
    pub reach: Reach,
}

/// Who was exchanged: addresses and not numbers, so that it stays true while containers come and go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reach {
    /// New endpoints up to these serve.
    #[serde(skip_serializing_if = "Edge::is_none")]
    pub joined: Edge,
    /// Old endpoints up to these leave.
    #[serde(skip_serializing_if = "Edge::is_none")]
    pub left: Edge,
}

impl Reach {
    /// Whether nobody was exchanged.
    pub fn is_nobody(&self) -> bool {
        *self == Self::default()
    }
}

/// The last address of each family that belongs to a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Edge {
    /// IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub v6: Option<Ipv6Addr>,
}

impl Edge {
    /// Whether the set is empty.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the address belongs to the set.
    pub fn includes(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4.is_some_and(|last| v4 <= last),
            IpAddr::V6(v6) => self.v6.is_some_and(|last| v6 <= last),
        }
    }

    /// Makes the address, and all before it, belong to the set.
    pub fn extend(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.v4 = self.v4.max(Some(v4)),
            IpAddr::V6(v6) => self.v6 = self.v6.max(Some(v6)),
        }
    }
}

/// Whether an exchange goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutState {
    /// It does.
    #[default]
    Running,
    /// It stopped, and why.
    Paused(String),
    /// It goes back to the endpoints before the last update, and why.
    Returning(String),
    /// It went back, and why. Nothing is under way any more.
    Returned(String),
}

/// An endpoint in the catalogue, under `SERVICE/ADDRESS`: one that somebody added, or another node's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisteredEndpoint {
    /// The service that it serves.
    pub service: ServiceName,
    /// Itself.
    pub endpoint: Endpoint,
    /// With any, it serves only when the service's selector matches them; without, always.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where it comes from.
    #[serde(default)]
    pub origin: Origin,
}

impl RegisteredEndpoint {
    /// Its name in the catalogue.
    pub fn key(&self) -> String {
        format!("{}/{}", self.service, self.endpoint.address)
    }
}

/// Where an endpoint comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Somebody added it.
    #[default]
    Added,
    /// A container's attachment, on the node that the endpoint names.
    Container(AttachmentId),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_is_a_deployment_without_a_past() {
        let service = json!({"name": "web", "ports": [{"port": 80}], "selector": {"app": "web"}});
        let deployment: Deployment = serde_json::from_value(json!({"service": service})).unwrap();
        assert_eq!((deployment.previous, deployment.rollout), (None, None));
        assert_eq!(deployment.service.update, UpdatePolicy::default());
        assert_eq!(deployment.service.selector.0["app"], "web");
    }

    #[test]
    fn an_exchange_is_written_as_it_is_read() {
        let text = json!({"from": {"app": "a"}, "driver": "n1", "step": 2, "state": {"paused": "ill"},
            "through": [{"to": {"app": "b"}, "reach": {"joined": {"v6": "fd00::2"}}}],
            "reach": {"joined": {"v4": "10.88.0.2"}, "left": {"v4": "10.88.0.7", "v6": "fd00::7"}}});
        let rollout: Rollout = serde_json::from_value(text.clone()).unwrap();
        assert!(rollout.reach.left.includes("10.88.0.7".parse().unwrap()));
        assert!(!rollout.reach.joined.includes("10.88.0.3".parse().unwrap()));
        assert_eq!(serde_json::to_value(&rollout).unwrap(), text);
    }

    #[test]
    fn an_added_endpoint_needs_an_address() {
        let text = json!({"service": "web", "endpoint": {"address": "10.88.0.2"}});
        let endpoint: RegisteredEndpoint = serde_json::from_value(text).unwrap();
        assert_eq!((endpoint.key().as_str(), endpoint.origin), ("web/10.88.0.2", Origin::Added));
    }
}
