//! What is said of services and their endpoints.
//!
//! Every change answers [`Written`] once the kernel of this host has it and names are answered by it, so that whoever
//! made it sees it with the next packet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use zeugma_model::{Deployment, EndpointState, NodeName, Origin, ServiceName, Weight};

/// The header of an answer with many objects: the number of this state, for `?after=`. It is of this agent alone.
pub const REVISION: &str = "zeugma-revision";
/// `GET`: a list of [`ServiceView`]. With `?after=NUMBER` it waits, up to 30 s, while the state is that of [`REVISION`].
pub const SERVICES: &str = "/v1/services";
/// `GET`: [`ServiceView`]; `PUT`, body [`zeugma_model::Service`]: creates it, or begins to make it so; `DELETE`.
/// A `PUT` with the header `If-None-Match: *` only creates; one with `If-Match: REVISION` only changes what was last
/// written at it, and is refused with 412 otherwise; it also resumes an exchange of endpoints that paused, which a `PUT`
/// of the same service without it does not.
pub const SERVICE: &str = "/v1/services/{name}";
/// `POST`: the service becomes what it was before its last update.
pub const SERVICE_ROLLBACK: &str = "/v1/services/{name}/rollback";
/// `GET`: the [`NewEndpoint`] that was added; `PUT`, body [`NewEndpoint`]; `DELETE`, with `?now=true` without draining: answers [`Removed`].
pub const SERVICE_ENDPOINT: &str = "/v1/services/{name}/endpoints/{address}";
/// `POST`: the endpoint gets no new flows and stays until it is removed, or added again; answers [`Written`].
pub const SERVICE_ENDPOINT_DRAIN: &str = "/v1/services/{name}/endpoints/{address}/drain";

/// A service as it is, with those who serve it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// As it is to be.
    #[serde(flatten)]
    pub deployment: Deployment,
    /// When the catalogue last wrote it.
    pub revision: u64,
    /// By address.
    pub endpoints: Vec<EndpointView>,
    /// What does not work, a line each: a port that another service has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// An endpoint of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointView {
    /// Its address.
    pub address: IpAddr,
    /// The node that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Its part of the flows.
    pub weight: Weight,
    /// Whether it gets flows.
    pub state: EndpointState,
    /// Where it comes from.
    pub origin: Origin,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// An endpoint to be added. Its address is in the path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEndpoint {
    /// The node that it runs on; none for what is outside of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Its part of the flows; 1 unless given.
    #[serde(default)]
    pub weight: Weight,
    /// With any, it serves only when the service's selector matches them; without, always.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whether it is to get flows; `draining` keeps those that it has.
    #[serde(default)]
    pub state: EndpointState,
}

/// A change was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The service.
    pub service: ServiceName,
    /// When the catalogue wrote it.
    pub revision: u64,
    /// Nothing was different.
    #[serde(default)]
    pub unchanged: bool,
    /// Its virtual addresses.
    #[serde(default)]
    pub vips: Vec<IpAddr>,
    /// What does not work nevertheless, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// An endpoint leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// When the catalogue wrote it.
    pub revision: u64,
    /// Seconds until its flows end; 0: it is gone.
    pub drains_seconds: u32,
}
