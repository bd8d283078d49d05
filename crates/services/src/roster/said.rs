//! What is said to the roster, and what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use zeugma_model::{AttachmentId, Deployment, Endpoint, ServiceName};

/// A container of this host that may serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its attachment: the network is the service's when the service names it.
    pub attachment: AttachmentId,
    /// Its addresses on that network.
    pub addresses: Vec<IpAddr>,
    /// Its labels, and its names as `zeugma.name` and `zeugma.alias`, which may have several values.
    pub labels: BTreeSet<(String, String)>,
}

/// Where an endpoint of a service comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A container of this host.
    Here(AttachmentId),
    /// The catalogue.
    Registered,
}

/// An endpoint to be asked whether it serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Check {
    /// Of which service.
    pub service: ServiceName,
    /// Who is asked.
    pub address: IpAddr,
}

/// What a check came to, after as many answers of a kind as the threshold says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It serves.
    Healthy,
    /// It does not, in the words of whoever asked.
    Unhealthy(String),
}

/// A service's endpoints now, with why they are as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crew {
    /// By address.
    pub members: BTreeMap<IpAddr, Member>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// As it is programmed.
    pub endpoint: Endpoint,
    /// Where it comes from.
    pub source: Source,
    /// Why it is not ready; none when it is.
    pub why: Option<String>,
}

/// How an exchange of endpoints stands, for who drives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing to do before this moment.
    Wait(Option<Instant>),
    /// The next step is due: write this deployment.
    Write(Box<Deployment>),
}
