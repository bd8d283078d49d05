//! A lab as it is to be: what its file says, with everything that was left out in it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{Alias, IfName, Network, NetworkName, NodeName, Service};

use super::file::{Command, Destination, Published, Store};

/// All of it. Names of machines, switches and containers are different from one another.
#[derive(Debug)]
pub(super) struct Topology {
    pub(super) name: NodeName,
    pub(super) store: Option<Store>,
    pub(super) machines: Vec<Machine>,
    pub(super) links: Vec<Link>,
    pub(super) networks: Vec<Network>,
    pub(super) services: Vec<Service>,
    pub(super) containers: Vec<Container>,
}

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) name: String,
    /// Its agent's flags; none: it has no agent.
    pub(super) agent: Option<Vec<String>>,
    pub(super) forward: bool,
    pub(super) routes: Vec<Route>,
    pub(super) command: Option<Command>,
}

/// A route.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) to: Destination,
    pub(super) via: IpAddr,
}

/// A wire of two ends, or a switch of any number.
#[derive(Debug)]
pub(super) struct Link {
    /// None: a wire.
    pub(super) switch: Option<String>,
    pub(super) ends: Vec<End>,
    pub(super) mtu: Option<u32>,
    pub(super) rate: Option<String>,
    pub(super) delay: Option<String>,
}

/// A machine's interface on a link.
#[derive(Debug)]
pub(super) struct End {
    pub(super) machine: String,
    pub(super) interface: IfName,
    pub(super) addresses: Vec<IpNetwork>,
}

/// A container.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) machine: String,
    pub(super) joins: Vec<Join>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) publish: Vec<Published>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) command: Option<Command>,
}

/// A network that it is on.
#[derive(Debug, Clone)]
pub(super) struct Join {
    pub(super) network: NetworkName,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) aliases: Vec<Alias>,
}

impl Topology {
    /// The interfaces of a machine, in the order of the file.
    pub(super) fn ends_of<'a>(&'a self, machine: &'a str) -> impl Iterator<Item = (&'a Link, &'a End)> {
        let ends = self.links.iter().flat_map(|link| link.ends.iter().map(move |end| (link, end)));
        ends.filter(move |(_, end)| end.machine == machine)
    }

    /// The containers of a machine.
    pub(super) fn containers_of<'a>(&'a self, machine: &'a str) -> impl Iterator<Item = &'a Container> {
        self.containers.iter().filter(move |container| container.machine == machine)
    }

    /// The networks that a machine needs for its containers.
    pub(super) fn networks_of(&self, machine: &str) -> Vec<Network> {
        let is_joined = |network: &&Network| {
            self.containers_of(machine).flat_map(|one| &one.joins).any(|join| join.network == network.name)
        };
        self.networks.iter().filter(is_joined).cloned().collect()
    }

    /// The services that an agent is told of: where the store is shared, any agent has all of them; otherwise each has
    /// those whose networks it has.
    pub(super) fn services_of(&self, machine: &str) -> Vec<Service> {
        let networks = self.networks_of(machine);
        let is_here = |name: &NetworkName| networks.iter().any(|network| network.name == *name);
        let is_wanted = |service: &&Service| {
            self.store.is_some() || service.networks.is_empty() || service.networks.iter().any(is_here)
        };
        self.services.iter().filter(is_wanted).cloned().collect()
    }
}
