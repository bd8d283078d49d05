//! What is said over the agent's socket: HTTP/1.1 with JSON bodies at `agent.sock` in the run directory.
//!
//! Types only: the server is `agent`, its clients are the plugin `resolver` and the command line.

mod networks;
mod peers;
mod services;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use zeugma_model::{AttachmentId, NetworkName, Protocol, ServiceName};

pub use networks::{NETWORK, NETWORKS, NetworkRemoved, NetworkView, NetworkWritten};
pub use peers::{NODE, NODES, NodeView, OverlayView, PEERS, PeerView, ROTATE};
pub use services::{
    EndpointView, NewEndpoint, REVISION, Removed, SERVICE, SERVICE_ENDPOINT, SERVICE_ENDPOINT_DRAIN,
    SERVICE_ROLLBACK, SERVICES, ServiceView, Written,
};

/// The socket's name in the run directory.
pub const SOCKET: &str = "agent.sock";
/// `POST`, body [`AttachmentId`]: look at the journal's records of this attachment again; answers [`Synced`] once
/// names are as they say. The message is only a hint: nothing in it is believed.
pub const SYNC: &str = "/v1/sync";
/// `GET`: [`Status`].
pub const STATUS: &str = "/v1/status";
/// `GET`: [`Dump`].
pub const DNS_DUMP: &str = "/v1/dns";
/// `GET` with the parameters `name`, `type` (such as `A`) and, unless the host is to ask, `network`: [`Lookup`].
pub const DNS_QUERY: &str = "/v1/dns/query";
/// `POST`: compares the host with the journal and mends it; answers [`Repaired`].
pub const REPAIR: &str = "/v1/repair";

/// The answer to [`SYNC`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// Counts changes of names since the agent began; questions asked from now on see at least this one.
    pub generation: u64,
}

/// The answer to [`STATUS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// As in [`Synced`].
    pub generation: u64,
    /// Attachments in the journal.
    pub attachments: usize,
    /// Networks that have names.
    pub networks: usize,
    /// How often something on the host was mended.
    pub repairs: u64,
    /// Addresses at which questions are answered.
    #[serde(default)]
    pub listeners: usize,
    /// Services in the catalogue.
    #[serde(default)]
    pub services: usize,
    /// Their endpoints.
    #[serde(default)]
    pub endpoints: usize,
    /// Where services are kept.
    #[serde(default)]
    pub catalogue: CatalogueStatus,
    /// What does not work, a line each: an address that is taken, two networks with the same one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Where services are kept, and whether it answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueStatus {
    /// The file, or `etcd` and its URLs.
    pub store: String,
    /// Since when it has not answered, in seconds since 1970; what was known before is still served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded_since: Option<u64>,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether what is known is what the agent before this one knew, as it has not answered since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recalled: bool,
}

/// The answer to [`REPAIR`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// What was done, a line each, as a plan prints it.
    pub steps: Vec<String>,
    /// What could not be done, a line each.
    pub failures: Vec<String>,
}

/// The answer to [`DNS_DUMP`]: everything that the resolver answers by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// As in [`Synced`].
    pub generation: u64,
    /// By name.
    pub networks: Vec<NetworkNames>,
    /// By name.
    #[serde(default)]
    pub services: Vec<ServiceAnswers>,
}

/// The names of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkNames {
    /// The network.
    pub network: NetworkName,
    /// The domain below which its names answer, too.
    pub domain: String,
    /// Whether other names stay unanswered.
    pub internal: bool,
    /// Who is asked about other names; empty: the host's servers.
    pub servers: Vec<SocketAddr>,
    /// Where questions arrive.
    pub listeners: Vec<SocketAddr>,
    /// By name.
    pub names: Vec<NameAnswers>,
}

/// One name and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameAnswers {
    /// Without the domain.
    pub name: String,
    /// What it is answered with.
    pub addresses: Vec<IpAddr>,
    /// Whose addresses those are.
    pub attachments: Vec<AttachmentId>,
    /// The services that have it, so that no container does; the first one answers, the others differ from it by case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceName>,
    /// Who asked for the name as well and does not get it: it is a container's own name, or a service's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<AttachmentId>,
}

/// What is answered about a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAnswers {
    /// Its name.
    pub name: ServiceName,
    /// The networks whose members know it.
    pub networks: Vec<NetworkName>,
    /// What its name is answered with.
    pub addresses: Vec<IpAddr>,
    /// What `tasks.NAME` is answered with: the endpoints that get flows.
    pub tasks: Vec<IpAddr>,
    /// Ports that have SRV records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortAnswer>,
    /// Whether nothing is answered, because the name has no place in DNS, or is `localhost` or below it.
    #[serde(default)]
    pub nameless: bool,
}

/// A port of a service that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortAnswer {
    /// Its name, without `_`.
    pub name: String,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port of the virtual address.
    pub port: u16,
    /// The port of the endpoints.
    pub target: u16,
}

/// The answer to [`DNS_QUERY`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// `NOERROR`, `NXDOMAIN`, … (the DNS RCODE's mnemonic).
    pub code: String,
    /// The answer section.
    pub records: Vec<Answer>,
}

/// A resource record as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The owner's name, with its final dot.
    pub name: String,
    /// Seconds.
    pub ttl: u32,
    /// Such as `A`.
    #[serde(rename = "type")]
    pub kind: String,
    /// In presentation form.
    pub data: String,
}

/// Every answer that is no success has this body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What is wrong, and what to do about it.
    pub error: String,
}
