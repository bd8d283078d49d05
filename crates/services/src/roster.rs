//! Who serves: services, containers' labels, endpoints that were added, what health checks say, exchanges under way
//! → each service's endpoints and their states.
//!
//! Pure, and never more work than the services that are concerned: containers and services are found by label.
//! Time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use zeugma_model::{AttachmentId, Deployment, Endpoint, HealthCheck, RegisteredEndpoint, ServiceName};

use crate::Workload;

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

/// Everything that decides who serves.
#[derive(Debug, Default)]
pub struct Roster {
    // Builder `roster` fills this.
}

impl Roster {
    /// A service is there, or is another than before.
    pub fn put_service(&mut self, deployment: Deployment, now: Instant) {
        let _ = (deployment, now);
    }

    /// A service is gone.
    pub fn remove_service(&mut self, name: &ServiceName) {
        let _ = name;
    }

    /// A container of this host is attached, or is another than before.
    pub fn put_candidate(&mut self, candidate: Candidate, now: Instant) {
        let _ = (candidate, now);
    }

    /// A container's attachment is gone.
    pub fn remove_candidate(&mut self, attachment: &AttachmentId) {
        let _ = attachment;
    }

    /// An endpoint is in the catalogue. Those that are containers of this host are left out by the caller.
    pub fn put_endpoint(&mut self, endpoint: RegisteredEndpoint, now: Instant) {
        let _ = (endpoint, now);
    }

    /// An endpoint is gone from the catalogue.
    pub fn remove_endpoint(&mut self, service: &ServiceName, address: IpAddr) {
        let _ = (service, address);
    }

    /// A check came to a verdict.
    pub fn judge(&mut self, check: &Check, verdict: Verdict, now: Instant) {
        let _ = (check, verdict, now);
    }

    /// Services whose endpoints, or they themselves, are not as they were at the last call; gone ones, too.
    pub fn take_changed(&mut self, now: Instant) -> BTreeSet<ServiceName> {
        let _ = now;
        BTreeSet::new()
    }

    /// When [`Roster::take_changed`] has to be called although nobody said anything: an endpoint has drained.
    pub fn next_change(&self) -> Option<Instant> {
        None
    }

    /// What is to be programmed of a service; none when it is gone.
    pub fn workload(&self, name: &ServiceName) -> Option<Workload> {
        let _ = name;
        None
    }

    /// The same with reasons, for people.
    pub fn crew(&self, name: &ServiceName) -> Option<Crew> {
        let _ = name;
        None
    }

    /// Which endpoints of the service are to be asked, and how.
    pub fn checks(&self, name: &ServiceName) -> Option<(HealthCheck, Vec<Check>)> {
        let _ = name;
        None
    }

    /// How the exchange of the service's endpoints stands; none: there is none.
    pub fn standing(&self, name: &ServiceName, now: Instant) -> Option<Standing> {
        let _ = (name, now);
        None
    }
}
