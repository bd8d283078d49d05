//! An endpoint: one of those that a service's flows go to.

use std::net::IpAddr;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::NodeName;

/// A container, or anything else with an address, that serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its address. Services with addresses of both families have an endpoint for each.
    pub address: IpAddr,
    /// The node that it runs on; none for what is outside of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Its part of the flows, beside the others'; 1 unless given.
    #[serde(default)]
    pub weight: Weight,
    /// Whether it gets flows.
    #[serde(default)]
    pub state: EndpointState,
}

/// A part of flows: 1 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Weight(NonZeroU16);

/// The weight is 0 or above 1000.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no weight: take 1 to 1000; an endpoint that is to get no flows is draining")]
pub struct WeightError(u16);

impl Weight {
    /// The largest.
    pub const LARGEST: u16 = 1000;

    /// As a number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(NonZeroU16::MIN)
    }
}

impl TryFrom<u16> for Weight {
    type Error = WeightError;
    fn try_from(number: u16) -> Result<Self, WeightError> {
        let weight = NonZeroU16::new(number).filter(|_| number <= Self::LARGEST);
        weight.map(Self).ok_or(WeightError(number))
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.get()
    }
}

/// Whether an endpoint gets flows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// It does.
    #[default]
    Ready,
    /// It leaves: no new flows, and the old ones are kept.
    Draining,
    /// Its health check failed: no new flows.
    Unhealthy,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_is_enough() {
        let endpoint: Endpoint = serde_json::from_value(json!({"address": "10.88.0.2"})).unwrap();
        assert_eq!((endpoint.weight.get(), endpoint.state), (1, EndpointState::Ready));
        let full = json!({"address": "10.88.0.2", "node": "n1", "weight": 3, "state": "draining"});
        let endpoint: Endpoint = serde_json::from_value(full.clone()).unwrap();
        assert_eq!(serde_json::to_value(endpoint).unwrap(), full);
    }

    #[test]
    fn weights_are_1_to_1000() {
        assert!(Weight::try_from(0).is_err() && Weight::try_from(1001).is_err());
        assert_eq!(Weight::try_from(1000).map(Weight::get), Ok(1000));
    }
}
