//! A service: one name and one address for many containers. What it is, not how it gets into the kernel (`services`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU16, NonZeroU32};

use serde::{Deserialize, Serialize};

use crate::{NetworkName, Protocol, Selector, ServiceName, UpdatePolicy};

/// The longest affinity: a day, as Kubernetes has it.
const LONGEST_AFFINITY: u32 = 86_400;

/// A service, as the catalogue has it and `zeugma apply` reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// The networks whose containers know it by name.
    pub networks: BTreeSet<NetworkName>,
    /// Which containers of those networks serve; empty: none does by its labels.
    pub selector: Selector,
    /// For people and their tools, such as the stack that it belongs to.
    pub labels: BTreeMap<String, String>,
    /// What the name stands for.
    pub mode: Mode,
    /// Its ports; no two have the same number and protocol, nor the same name.
    pub ports: Vec<ServicePort>,
    /// Which of them are ports of hosts, too.
    pub published: Vec<PublishedPort>,
    /// Whether a client stays with its endpoint.
    pub affinity: Option<Affinity>,
    /// Which endpoints take part.
    pub traffic: TrafficPolicy,
    /// How endpoints are asked whether they serve.
    pub health: Option<HealthCheck>,
    /// For how many seconds an endpoint that leaves keeps its flows.
    pub drain_seconds: u32,
    /// How its endpoints are exchanged when the selector changes.
    pub update: UpdatePolicy,
}

/// What the service's name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// An address of its own, whose flows the kernel spreads.
    Vip(Vips),
    /// The endpoints' addresses, in turn (`dnsrr`).
    Dnsrr,
}

/// The virtual addresses: at most one of each family, none before they are allocated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vips {
    /// IPv4.
    pub v4: Option<Ipv4Addr>,
    /// IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl Vips {
    /// Those that there are.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::from).into_iter().chain(self.v6.map(IpAddr::from))
    }
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePort {
    /// For SRV records and for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port of the virtual address.
    pub port: NonZeroU16,
    /// The port of the endpoints; that of the service unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<NonZeroU16>,
    /// The transport protocol; TCP unless given.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
}

impl ServicePort {
    /// The port of the endpoints.
    pub fn target(&self) -> u16 {
        self.target.unwrap_or(self.port).get()
    }
}

/// A port of hosts that leads to a port of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedPort {
    /// On the hosts' addresses.
    pub published: NonZeroU16,
    /// Of the service.
    pub port: NonZeroU16,
    /// The transport protocol; TCP unless given.
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    /// On which hosts.
    #[serde(default)]
    pub scope: PublishScope,
}

/// On which hosts a port is published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PublishScope {
    /// On every one, to endpoints wherever they are: the routing mesh.
    #[default]
    Mesh,
    /// On those that have endpoints, to these alone; the client's address is kept.
    Local,
}

/// A client stays with its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affinity {
    /// Seconds without a new flow after which it is forgotten: 1 to 86400.
    pub timeout_seconds: NonZeroU32,
}

/// Which of the endpoints take part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficPolicy {
    /// All.
    #[default]
    Any,
    /// Those on the client's node; all when it has none that are ready.
    PreferLocal,
    /// Those on the client's node.
    LocalOnly,
}

/// How endpoints are asked whether they serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Seconds between two questions.
    #[serde(default = "ten")]
    pub interval_seconds: NonZeroU32,
    /// Seconds that an answer may take.
    #[serde(default = "two")]
    pub timeout_seconds: NonZeroU32,
    /// Answers of one kind, one after another, that change the endpoint's state.
    #[serde(default = "three")]
    pub threshold: NonZeroU32,
}

/// A question to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Probe {
    /// Whether it takes connections.
    Tcp {
        /// The endpoint's port.
        port: NonZeroU16,
    },
    /// Whether GET answers with a status below 400.
    Http {
        /// The endpoint's port.
        port: NonZeroU16,
        /// What is asked for.
        path: String,
    },
}

/// Why a service was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Two addresses of one family.
    #[error("service {0} has two virtual addresses of one family: leave one of each")]
    TwoVips(ServiceName),
    /// An address that no service can have.
    #[error(
        "service {service} has the virtual address {vip}, which stands for no host or for many: leave it out, and one is allocated"
    )]
    NoVip {
        /// Of which service.
        service: ServiceName,
        /// The address.
        vip: IpAddr,
    },
    /// An address without use.
    #[error("service {0} has mode dnsrr and a virtual address: remove one of the two")]
    DnsrrWithVip(ServiceName),
    /// A port twice.
    #[error("service {service} has port {port}/{protocol} twice: remove one")]
    PortTwice {
        /// Of which service.
        service: ServiceName,
        /// The port.
        port: u16,
        /// Its protocol.
        protocol: Protocol,
    },
    /// A name twice.
    #[error("service {service} has two ports named {name:?}: rename one")]
    PortNameTwice {
        /// Of which service.
        service: ServiceName,
        /// The name.
        name: String,
    },
    /// A published port that leads nowhere.
    #[error(
        "service {service} publishes port {port}/{protocol}, which it does not have: add it to its ports"
    )]
    NoSuchPort {
        /// Of which service.
        service: ServiceName,
        /// The service's port.
        port: u16,
        /// Its protocol.
        protocol: Protocol,
    },
    /// Longer than a day.
    #[error("service {0} has an affinity of more than 86400 seconds: take at most a day")]
    AffinityLong(ServiceName),
}

/// The service as it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: ServiceName,
    #[serde(default)]
    networks: BTreeSet<NetworkName>,
    #[serde(default, skip_serializing_if = "Selector::is_empty")]
    selector: Selector,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    mode: RawMode,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    vips: Vec<IpAddr>,
    #[serde(default)]
    ports: Vec<ServicePort>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    published: Vec<PublishedPort>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    affinity: Option<Affinity>,
    #[serde(default)]
    traffic: TrafficPolicy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    health: Option<HealthCheck>,
    #[serde(default)]
    drain_seconds: u32,
    #[serde(default, skip_serializing_if = "UpdatePolicy::is_default")]
    update: UpdatePolicy,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawMode {
    #[default]
    Vip,
    Dnsrr,
}

impl TryFrom<Raw> for Service {
    type Error = ServiceError;
    fn try_from(raw: Raw) -> Result<Self, ServiceError> {
        let service = Self {
            mode: mode(&raw)?,
            name: raw.name,
            networks: raw.networks,
            selector: raw.selector,
            labels: raw.labels,
            ports: raw.ports,
            published: raw.published,
            affinity: raw.affinity,
            traffic: raw.traffic,
            health: raw.health,
            drain_seconds: raw.drain_seconds,
            update: raw.update,
        };
        service.ensure_distinct_ports()?;
        service.ensure_published_ports_lead_somewhere()?;
        match service.affinity {
            Some(affinity) if affinity.timeout_seconds.get() > LONGEST_AFFINITY => {
                Err(ServiceError::AffinityLong(service.name))
            }
            _ => Ok(service),
        }
    }
}

impl From<Service> for Raw {
    fn from(service: Service) -> Self {
        let (mode, vips) = match service.mode {
            Mode::Vip(vips) => (RawMode::Vip, vips.iter().collect()),
            Mode::Dnsrr => (RawMode::Dnsrr, Vec::new()),
        };
        Self {
            mode,
            vips,
            name: service.name,
            networks: service.networks,
            selector: service.selector,
            labels: service.labels,
            ports: service.ports,
            published: service.published,
            affinity: service.affinity,
            traffic: service.traffic,
            health: service.health,
            drain_seconds: service.drain_seconds,
            update: service.update,
        }
    }
}

fn mode(raw: &Raw) -> Result<Mode, ServiceError> {
    let mut vips = Vips::default();
    for address in &raw.vips {
        let vip = address.to_canonical();
        if vip.is_unspecified() || vip.is_loopback() || vip.is_multicast() || vip == Ipv4Addr::BROADCAST {
            return Err(ServiceError::NoVip { service: raw.name.clone(), vip });
        }
        let taken = match vip {
            IpAddr::V4(v4) => vips.v4.replace(v4).is_some(),
            IpAddr::V6(v6) => vips.v6.replace(v6).is_some(),
        };
        if taken {
            return Err(ServiceError::TwoVips(raw.name.clone()));
        }
    }
    match raw.mode {
        RawMode::Vip => Ok(Mode::Vip(vips)),
        RawMode::Dnsrr if raw.vips.is_empty() => Ok(Mode::Dnsrr),
        RawMode::Dnsrr => Err(ServiceError::DnsrrWithVip(raw.name.clone())),
    }
}

impl Service {
    /// Itself, when its parts fit together: for those that put it together themselves.
    ///
    /// # Errors
    /// What does not fit.
    pub fn checked(self) -> Result<Self, ServiceError> {
        Raw::from(self).try_into()
    }

    /// Its virtual addresses.
    pub fn vips(&self) -> Vips {
        match self.mode {
            Mode::Vip(vips) => vips,
            Mode::Dnsrr => Vips::default(),
        }
    }

    /// The port with this number and protocol.
    pub fn port(&self, port: NonZeroU16, protocol: Protocol) -> Option<&ServicePort> {
        self.ports.iter().find(|one| (one.port, one.protocol) == (port, protocol))
    }

    fn ensure_distinct_ports(&self) -> Result<(), ServiceError> {
        let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
        for one in &self.ports {
            if !numbers.insert((one.port, one.protocol)) {
                let (port, protocol) = (one.port.get(), one.protocol);
                return Err(ServiceError::PortTwice { service: self.name.clone(), port, protocol });
            }
            if let Some(name) = one.name.as_ref().filter(|name| !names.insert(*name)) {
                let (service, name) = (self.name.clone(), name.clone());
                return Err(ServiceError::PortNameTwice { service, name });
            }
        }
        Ok(())
    }

    fn ensure_published_ports_lead_somewhere(&self) -> Result<(), ServiceError> {
        let mut published = BTreeSet::new();
        for one in &self.published {
            let (service, protocol) = (self.name.clone(), one.protocol);
            if self.port(one.port, protocol).is_none() {
                return Err(ServiceError::NoSuchPort { service, port: one.port.get(), protocol });
            }
            if !published.insert((one.published, protocol)) {
                return Err(ServiceError::PortTwice { service, port: one.published.get(), protocol });
            }
        }
        Ok(())
    }
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

fn ten() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(9)
}

fn two() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(1)
}

fn three() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parsed(value: Value) -> Result<Service, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    fn refused(keys: &Value, words: &str) {
        let mut value = json!({"name": "web", "ports": [{"port": 80}]});
        value.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let error = parsed(value).unwrap_err();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn a_service_is_written_as_it_is_read() {
        let text = json!({
            "name": "web", "networks": ["front"], "mode": "vip", "vips": ["10.96.0.1", "fd00:96::1"],
            "ports": [{"name": "http", "port": 80, "target": 8080, "protocol": "tcp"}],
            "published": [{"published": 8080, "port": 80, "protocol": "tcp", "scope": "mesh"}],
            "affinity": {"timeout_seconds": 600}, "traffic": "prefer-local",
            "health": {"probe": {"http": {"port": 8080, "path": "/healthz"}}, "interval_seconds": 5,
                       "timeout_seconds": 1, "threshold": 2},
            "drain_seconds": 30, "selector": {"app": "web"}, "labels": {"com.docker.stack.namespace": "shop"},
            "update": {"parallelism": 2, "delay_seconds": 5, "monitor_seconds": 10, "on_failure": "rollback",
                       "order": "stop-first"}
        });
        let service = parsed(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&service).unwrap(), text);
        assert_eq!(service.ports[0].target(), 8080);
    }

    #[test]
    fn little_is_needed() {
        let service = parsed(json!({"name": "web", "ports": [{"port": 80}]})).unwrap();
        assert_eq!((service.mode, service.traffic), (Mode::Vip(Vips::default()), TrafficPolicy::Any));
        assert_eq!((service.ports[0].target(), service.ports[0].protocol), (80, Protocol::Tcp));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        refused(&json!({"vips": ["10.96.0.1", "10.96.0.2"]}), "two virtual addresses");
        refused(&json!({"vips": ["0.0.0.0"]}), "leave it out");
        refused(&json!({"vips": ["::ffff:127.0.0.1"]}), "127.0.0.1, which stands for no host");
        refused(&json!({"mode": "dnsrr", "vips": ["10.96.0.1"]}), "mode dnsrr and a virtual address");
        refused(&json!({"ports": [{"port": 80}, {"port": 80}]}), "80/tcp twice");
        refused(&json!({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]}), "named \"a\"");
        refused(&json!({"published": [{"published": 80, "port": 81}]}), "81/tcp, which it does not have");
        refused(
            &json!({"published": [{"published": 1, "port": 80}, {"published": 1, "port": 80}]}),
            "1/tcp twice",
        );
        refused(&json!({"affinity": {"timeout_seconds": 86_401}}), "86400");
        refused(&json!({"affinity": {"timeout_seconds": 0}}), "nonzero");
        refused(&json!({"weigth": 1}), "unknown field");
    }
}
