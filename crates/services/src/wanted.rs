//! What one service needs: its addresses, its frontends, and who serves each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnetwork::IpNetwork;
use zeugma_model::{Endpoint, EndpointState, Mode, NodeName, Protocol, PublishScope, Service, TrafficPolicy};
use zeugma_plan::Family;
use zeugma_plan::nft::services::{Backend, Frontend, affinity_class};

/// A service with those who serve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The service.
    pub service: Service,
    /// Its endpoints, of both families.
    pub endpoints: Vec<Endpoint>,
}

/// Where services are programmed: what the paths of flows depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Situation {
    /// This node.
    pub node: NodeName,
    /// Subnets of containers whose way out is this host.
    pub local: Vec<IpNetwork>,
    /// Subnets of containers anywhere; those of `local` are among them.
    pub inside: Vec<IpNetwork>,
    /// Subnets of overlays, by network; they are among those of `inside`. Other hosts take no packets to them with
    /// addresses of another network.
    pub overlays: Vec<Vec<IpNetwork>>,
    /// Subnets within which answers do not pass this host: those of bridges whose frames netfilter does not see
    /// (`net.bridge.bridge-nf-call-iptables` is 0), of macvlan and the like.
    pub direct: Vec<IpNetwork>,
    /// Ranges that virtual addresses are taken from: what is in them and no service's is refused.
    pub ranges: Vec<IpNetwork>,
}

/// Who serves a frontend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Who gets new flows, by address.
    pub(crate) ready: Vec<(Backend, u16)>,
    /// Who keeps old ones besides: who is draining, and who the policy leaves out now.
    pub(crate) others: Vec<Backend>,
    /// Seconds for which a client is remembered.
    pub(crate) affinity: Option<u32>,
}

/// All of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WantedService {
    pub(crate) vips: Vec<IpAddr>,
    pub(crate) ports: Vec<(Family, Protocol, u16)>,
    pub(crate) frontends: BTreeMap<Frontend, Wanted>,
    /// Endpoints on this node: they may be clients of themselves.
    pub(crate) here: Vec<IpAddr>,
}

/// What the service needs in this situation.
pub(crate) fn wanted(workload: &Workload, situation: &Situation) -> WantedService {
    let Workload { service, endpoints } = workload;
    let mut wanted = WantedService::default();
    if let Mode::Vip(vips) = service.mode {
        wanted.vips = vips.iter().collect();
    }
    for vip in wanted.vips.clone() {
        let of_family = of_family(endpoints, Family::of(vip));
        let crew = Crew::new(&of_family, service.traffic, &situation.node);
        for port in &service.ports {
            let frontend = Frontend { address: vip, protocol: port.protocol, port: port.port.get() };
            wanted.frontends.insert(frontend, crew.serving(service, port.target()));
        }
    }
    for family in Family::ALL {
        publish(&mut wanted, workload, family, &situation.node);
    }
    let is_here = |endpoint: &&Endpoint| is_on(endpoint, &situation.node) || is_local(endpoint, situation);
    wanted.here = endpoints.iter().filter(is_here).map(|endpoint| endpoint.address.to_canonical()).collect();
    wanted.here.sort_unstable();
    wanted.here.dedup();
    wanted
}

/// A port is published in the families that the service has endpoints of.
fn publish(wanted: &mut WantedService, workload: &Workload, family: Family, node: &NodeName) {
    let Workload { service, endpoints } = workload;
    let of_family = of_family(endpoints, family);
    if of_family.is_empty() {
        return;
    }
    for published in &service.published {
        let policy = match published.scope {
            PublishScope::Mesh => service.traffic,
            PublishScope::Local => TrafficPolicy::LocalOnly,
        };
        let (protocol, port) = (published.protocol, published.published.get());
        let target = target(service, published.port, protocol);
        let frontend = Frontend { address: family.unspecified(), protocol, port };
        let crew = Crew::new(&of_family, policy, node);
        wanted.frontends.insert(frontend, crew.serving(service, target));
        wanted.ports.push((family, protocol, port));
    }
}

fn target(service: &Service, port: NonZeroU16, protocol: Protocol) -> u16 {
    service.port(port, protocol).map_or(port.get(), |port| port.target())
}

/// The endpoints of a family in order of address, each once.
fn of_family(endpoints: &[Endpoint], family: Family) -> Vec<&Endpoint> {
    let address = |endpoint: &Endpoint| endpoint.address.to_canonical();
    let mut all: Vec<&Endpoint> =
        endpoints.iter().filter(|endpoint| Family::of(address(endpoint)) == family).collect();
    all.sort_unstable_by_key(|endpoint| (address(endpoint), endpoint.state));
    all.dedup_by_key(|endpoint| address(endpoint));
    all
}

/// Endpoints of one family under a policy.
struct Crew<'a> {
    ready: Vec<&'a Endpoint>,
    others: Vec<&'a Endpoint>,
}

impl<'a> Crew<'a> {
    fn new(endpoints: &[&'a Endpoint], policy: TrafficPolicy, node: &NodeName) -> Self {
        let is_ready = |endpoint: &&Endpoint| endpoint.state == EndpointState::Ready;
        let has_local = endpoints.iter().any(|endpoint| is_ready(endpoint) && is_on(endpoint, node));
        let only_local = match policy {
            TrafficPolicy::Any => false,
            TrafficPolicy::PreferLocal => has_local,
            TrafficPolicy::LocalOnly => true,
        };
        let alive = endpoints.iter().copied().filter(|one| one.state != EndpointState::Unhealthy);
        let (ready, others) =
            alive.partition(|endpoint| is_ready(endpoint) && (!only_local || is_on(endpoint, node)));
        Self { ready, others }
    }

    fn serving(&self, service: &Service, port: u16) -> Wanted {
        let backend = |endpoint: &&Endpoint| Backend { address: endpoint.address.to_canonical(), port };
        Wanted {
            ready: self.ready.iter().map(|one| (backend(one), one.weight.get())).collect(),
            others: self.others.iter().map(backend).collect(),
            affinity: service.affinity.map(|affinity| affinity_class(affinity.timeout_seconds.get())),
        }
    }
}

/// Somebody added a container of this host and did not say that it is one.
fn is_local(endpoint: &Endpoint, situation: &Situation) -> bool {
    let address = endpoint.address.to_canonical();
    endpoint.node.is_none() && situation.local.iter().any(|subnet| subnet.contains(address))
}

fn is_on(endpoint: &Endpoint, node: &NodeName) -> bool {
    endpoint.node.as_ref() == Some(node)
}
