//! What a file may ask for, and how it becomes so.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use anyhow::Result;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeugma_api::{
    NETWORK, NetworkView, NetworkWritten, NewEndpoint, SERVICE, SERVICE_ENDPOINT, ServiceView, Written,
};
use zeugma_model::{EndpointState, Mode, Network, NodeName, Service, ServiceName, Vips, Weight};

use super::difference::differences;
use super::read::{Complaint, Place};
use crate::client::{Question, Refusal, filled};

/// One thing that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Object {
    Network(Box<Network>),
    Service(Box<Service>),
    Endpoint(Endpoint),
}

/// The words for kinds, as files have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Network,
    Service,
    Endpoint,
}

/// An endpoint that is no container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoint {
    service: ServiceName,
    address: IpAddr,
    #[serde(default)]
    node: Option<NodeName>,
    #[serde(default)]
    weight: Weight,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    state: EndpointState,
}

/// What became of an object, or would.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) what: &'static str,
    pub(crate) differences: Vec<String>,
    pub(crate) problems: Vec<String>,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Network, Self::Service, Self::Endpoint];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Service => "service",
            Self::Endpoint => "endpoint",
        }
    }

    /// The kind with this word.
    ///
    /// # Errors
    /// The words that there are.
    pub(super) fn of(word: &str) -> Result<Self, String> {
        let words = || Self::ALL.map(Self::word).join(", ");
        let kind = Self::ALL.into_iter().find(|kind| kind.word() == word);
        kind.ok_or_else(|| format!("{word:?} is no kind: there are {}", words()))
    }
}

impl fmt::Display for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write!(formatter, "network/{}", network.name),
            Self::Service(service) => write!(formatter, "service/{}", service.name),
            Self::Endpoint(endpoint) => {
                write!(formatter, "endpoint/{}/{}", endpoint.service, endpoint.address.to_canonical())
            }
        }
    }
}

/// What is written twice.
pub(super) fn twice(objects: &[(Place, Object)]) -> Vec<Complaint> {
    let mut first = BTreeMap::new();
    let mut complaints = Vec::new();
    for (place, object) in objects {
        if let Some(before) = first.insert(object.to_string(), place) {
            let message = format!("{object} is at {before} already: leave one of them");
            complaints.push(Complaint { place: place.clone(), message });
        }
    }
    complaints
}

impl Object {
    /// What others need comes first.
    pub(super) fn turn(&self) -> usize {
        match self {
            Self::Network(_) => 0,
            Self::Service(_) => 1,
            Self::Endpoint(_) => 2,
        }
    }

    /// Makes it so.
    ///
    /// # Errors
    /// Those of the agent.
    pub(crate) fn applied(&self) -> Result<Done> {
        let is_there = self.now()?.is_some();
        let (unchanged, problems) = match self {
            Self::Network(network) => {
                let written: NetworkWritten = Question::put(self.path(), network)?.answer()?;
                let problem = |problem| format!("{}: {problem}", network.name);
                (written.unchanged, written.problems.into_iter().map(problem).collect())
            }
            Self::Service(service) => written(Question::put(self.path(), service)?)?,
            Self::Endpoint(endpoint) => written(Question::put(self.path(), &endpoint.to_add())?)?,
        };
        let what = match (is_there, unchanged) {
            (_, true) => "unchanged",
            (true, false) => "updated",
            (false, false) => "created",
        };
        Ok(Done { what, problems, ..Done::default() })
    }

    /// What would become of it.
    ///
    /// # Errors
    /// As [`Object::applied`].
    pub(super) fn compared(&self) -> Result<Done> {
        let Some(now) = self.now()? else { return Ok(Done { what: "would be created", ..Done::default() }) };
        let differences = differences(&now, &self.wanted(&now)?);
        let what = match self {
            _ if differences.is_empty() => "would be unchanged",
            Self::Network(_) => "would be refused: a network is never changed, remove it first",
            Self::Service(_) | Self::Endpoint(_) => "would be updated",
        };
        Ok(Done { what, differences, ..Done::default() })
    }

    fn path(&self) -> String {
        match self {
            Self::Network(network) => filled(NETWORK, &[network.name.as_str()]),
            Self::Service(service) => filled(SERVICE, &[service.name.as_str()]),
            Self::Endpoint(endpoint) => filled(
                SERVICE_ENDPOINT,
                &[endpoint.service.as_str(), &endpoint.address.to_canonical().to_string()],
            ),
        }
    }

    /// As it is, in the form of what would be written.
    fn now(&self) -> Result<Option<Value>> {
        Ok(match self {
            Self::Network(_) => {
                let view = found::<NetworkView>(self.path())?;
                view.map(|view| serde_json::to_value(view.network)).transpose()?
            }
            Self::Service(_) => {
                let view = found::<ServiceView>(self.path())?;
                view.map(|view| serde_json::to_value(view.deployment.service)).transpose()?
            }
            Self::Endpoint(_) => found::<NewEndpoint>(self.path())?.map(serde_json::to_value).transpose()?,
        })
    }

    /// As it is to be, where it is `now`.
    fn wanted(&self, now: &Value) -> Result<Value> {
        Ok(match self {
            Self::Network(network) => {
                let is: Network = serde_json::from_value(now.clone())?;
                // Subnets are found for it, and it has a date.
                let wanted = Network { created: is.created, ..network.as_ref().clone() };
                if is.comes_of(&wanted) { now.clone() } else { serde_json::to_value(wanted)? }
            }
            Self::Service(service) => {
                let mut wanted = serde_json::to_value(service)?;
                // Addresses that nobody names stay.
                if service.mode == Mode::Vip(Vips::default()) && now["mode"] == "vip" {
                    wanted["vips"] = now["vips"].clone();
                }
                wanted
            }
            Self::Endpoint(endpoint) => serde_json::to_value(endpoint.to_add())?,
        })
    }
}

impl Endpoint {
    fn to_add(&self) -> NewEndpoint {
        let Self { node, weight, labels, state, .. } = self.clone();
        NewEndpoint { node, weight, labels, state }
    }
}

/// Whether nothing was different, and what does not work.
fn written(question: Question) -> Result<(bool, Vec<String>)> {
    let Written { unchanged, problems, .. } = question.answer()?;
    Ok((unchanged, problems))
}

/// None, when there is none.
fn found<T: DeserializeOwned + Serialize>(path: String) -> Result<Option<T>> {
    match Question::get(path).answer() {
        Ok(found) => Ok(Some(found)),
        Err(error) if Refusal::is_absence(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(keys: Value) -> Object {
        let mut value = json!({"name": "web", "ports": [{"port": 80}]});
        value.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        Object::Service(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn addresses_that_nobody_names_are_no_difference() {
        let Object::Service(now) = service(json!({"vips": ["10.96.0.1"]})) else { panic!() };
        let now = serde_json::to_value(now).unwrap();
        let difference = |object: Object| differences(&now, &object.wanted(&now).unwrap());
        assert_eq!(difference(service(json!({}))), Vec::<String>::new());
        let other = difference(service(json!({"vips": ["10.96.0.2"]})));
        assert_eq!(other, ["- vips[0]: \"10.96.0.1\"", "+ vips[0]: \"10.96.0.2\""]);
    }

    #[test]
    fn subnets_that_were_found_for_a_network_are_no_difference() {
        let network = |keys: Value| -> Network { serde_json::from_value(keys).unwrap() };
        let now = network(json!({"name": "front", "subnets": [{"subnet": "10.89.0.0/24"}], "created": 7}));
        let now = serde_json::to_value(now).unwrap();
        let wanted = |keys| Object::Network(Box::new(network(keys))).wanted(&now).unwrap();
        assert_eq!(differences(&now, &wanted(json!({"name": "front"}))), Vec::<String>::new());
        let other = differences(&now, &wanted(json!({"name": "front", "internal": true})));
        assert!(other.contains(&"+ internal: true".to_owned()), "{other:?}");
    }

    #[test]
    fn what_is_written_twice_is_named_with_both_places() {
        let place = |line| Place { file: "a.yaml".into(), line, column: 1 };
        let objects = [(place(1), service(json!({}))), (place(9), service(json!({"drain_seconds": 1})))];
        let complaints: Vec<String> = twice(&objects).iter().map(ToString::to_string).collect();
        assert_eq!(complaints, ["a.yaml:9:1: service/web is at a.yaml:1:1 already: leave one of them"]);
    }
}
