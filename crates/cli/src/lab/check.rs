//! A file of a lab becomes a topology, or everything that does not agree in it is said with its place. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_saphyr::{Location, Spanned};
use zeugma_model::{IfName, Network, NodeName};

use super::file::{self, Destination, File};
use super::topology::{Container, End, Join, Link, Machine, Topology};
use crate::apply::{Position, parsed, position};

/// As long as a host's name may be (sethostname(2)), and one part of a DNS name (RFC 1035, 2.3.4).
const LONGEST: usize = 63;
/// Bytes: the least that IPv4 hosts take (RFC 791), the most that an IP packet has.
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;
/// More at once is a mistake.
const MOST_REPLICAS: u16 = 500;
/// The switch by which agents reach what they share.
pub(super) const STORE: &str = "store";

/// The topology that a text describes; `fallback` is its name where it has none.
///
/// # Errors
/// Everything that is wrong, each with line and column.
pub(super) fn topology(text: &str, fallback: &str) -> Result<Topology, Vec<(Position, String)>> {
    let file: File = parsed(text).map_err(|complaint| vec![complaint])?;
    let mut check = Check::default();
    let name = check.lab_name(&file, fallback);
    check.names(&file);
    let machines: Vec<Machine> = file.machines.iter().map(|machine| check.machine(machine)).collect();
    let links: Vec<Link> = file.links.iter().map(|link| check.link(link)).collect();
    check.networks(&file);
    let hosts: Vec<&str> = file
        .machines
        .iter()
        .filter(|machine| machine.agent)
        .map(|machine| machine.name.value.as_str())
        .collect();
    let containers: Vec<Container> =
        file.containers.iter().flat_map(|container| check.container(container, &hosts)).collect();
    let Some(name) = name.filter(|_| check.complaints.is_empty()) else {
        check.complaints.sort();
        return Err(check.complaints);
    };
    let networks = file.networks.into_iter().map(|network| network.value).collect();
    let services = file.services.into_iter().map(|service| service.value).collect();
    let store = file.store.map(|store| store.value);
    Ok(Topology { name, store, machines, links, networks, services, containers })
}

/// What was seen so far.
#[derive(Default)]
struct Check {
    complaints: Vec<(Position, String)>,
    /// Machines, switches and containers: `zeugma lab exec` finds each by its name.
    names: BTreeMap<String, Position>,
    machines: BTreeSet<String>,
    interfaces: BTreeMap<(String, String), Position>,
    addresses: BTreeMap<IpAddr, (String, Position)>,
    networks: BTreeMap<String, Network>,
}

impl Check {
    fn wrong(&mut self, at: Location, message: String) {
        self.complaints.push((position(at), message));
    }

    /// None: it has none, and that was said.
    fn lab_name(&mut self, file: &File, fallback: &str) -> Option<NodeName> {
        let Some(name) = &file.name else {
            let name = fallback.parse().ok().filter(|_| fallback.len() <= LONGEST);
            if name.is_none() {
                let message = format!("{fallback:?} is no name for a lab: write one, such as `name: mine`");
                self.complaints.push(((1, 1), message));
            }
            return name;
        };
        self.ensure_short("lab", name.value.as_str(), name.referenced);
        Some(name.value.clone())
    }

    fn ensure_short(&mut self, what: &str, name: &str, at: Location) {
        if name.len() > LONGEST {
            self.wrong(
                at,
                format!("{what} {name}: the name has {} bytes: take {LONGEST} at most", name.len()),
            );
        }
    }

    /// Names are told first, so that what is written before them may speak of them.
    fn names(&mut self, file: &File) {
        if file.machines.is_empty() {
            self.complaints.push(((1, 1), "a lab has at least one machine: add it to `machines`".into()));
        }
        for machine in &file.machines {
            let name = machine.name.value.as_str();
            self.name("machine", name, machine.name.referenced);
            self.machines.insert(name.to_owned());
        }
        for switch in file.links.iter().filter_map(|link| link.value.switch.as_ref()) {
            self.name("switch", switch.value.as_str(), switch.referenced);
        }
    }

    fn name(&mut self, what: &str, name: &str, at: Location) {
        self.ensure_short(what, name, at);
        if name == STORE {
            self.wrong(at, format!("{what} {name}: this name is the lab's own: choose another"));
        }
        match self.names.get(name) {
            Some((line, column)) => {
                let message = format!("{what} {name}: the name is taken at {line}:{column}: choose another");
                self.wrong(at, message);
            }
            None => drop(self.names.insert(name.to_owned(), position(at))),
        }
    }

    fn machine(&mut self, machine: &file::Machine) -> Machine {
        let name = machine.name.value.as_str().to_owned();
        for route in &machine.routes {
            let is_v4 = match route.to.value {
                Destination::Default => route.via.value.is_ipv4(),
                Destination::Prefix(prefix) => prefix.is_ipv4(),
            };
            if is_v4 != route.via.value.is_ipv4() {
                let via = route.via.value;
                let message =
                    format!("machine {name}: {via} is of another family than where the route leads");
                self.wrong(route.via.referenced, message + ": take a next hop of the same one");
            }
        }
        if !machine.agent && !machine.agent_flags.is_empty() {
            let message = format!("machine {name} has agent_flags and no agent: leave one of them");
            self.wrong(machine.name.referenced, message);
        }
        Machine {
            name,
            agent: machine.agent.then(|| machine.agent_flags.clone()),
            forward: machine.forward,
            routes: machine.routes.iter().map(file::Route::plain).collect(),
            command: machine.command.clone(),
        }
    }

    fn link(&mut self, link: &Spanned<file::Link>) -> Link {
        let at = link.referenced;
        let link = &link.value;
        match link.ends.len() {
            0 | 1 if link.switch.is_none() => {
                self.wrong(at, "a link has two ends: write `ends: [ONE, OTHER]`".into());
            }
            count if count > 2 && link.switch.is_none() => {
                let message = "a wire has two ends: give the link a name, such as `switch: lan`, for more";
                self.wrong(at, message.into());
            }
            _ => {}
        }
        if let Some(mtu) = &link.mtu
            && !MTU.contains(&mtu.value)
        {
            let message =
                format!("an MTU of {} bytes cannot be: take {} to {}", mtu.value, MTU.start(), MTU.end());
            self.wrong(mtu.referenced, message);
        }
        for subnet in &link.subnets {
            if subnet.value.ip() != subnet.value.network() {
                let right = format!("{}/{}", subnet.value.network(), subnet.value.prefix());
                self.wrong(subnet.referenced, format!("subnet {} has host bits: take {right}", subnet.value));
            }
        }
        let ends: Vec<End> =
            link.ends.iter().enumerate().map(|(nth, end)| self.end(link, nth, end)).collect();
        Link {
            switch: link.switch.as_ref().map(|name| name.value.as_str().to_owned()),
            ends,
            mtu: link.mtu.as_ref().map(|mtu| mtu.value),
            rate: link.rate.as_ref().map(|rate| rate.value.clone()),
            delay: link.delay.as_ref().map(|delay| delay.value.clone()),
        }
    }

    fn end(&mut self, link: &file::Link, nth: usize, end: &Spanned<file::Brief<file::End>>) -> End {
        let (at, end) = (end.referenced, &end.value.0);
        let machine = end.machine.as_str().to_owned();
        if !self.machines.contains(&machine) {
            let known: Vec<&str> = self.machines.iter().map(String::as_str).collect();
            self.wrong(at, format!("there is no machine {machine}: there are {}", known.join(", ")));
        }
        let interface = self.interface(&machine, end.interface.as_ref(), at);
        let mut addresses = Vec::new();
        for address in &end.addresses {
            match address_of(&address.value, link) {
                Ok(found) => addresses.push((found, address.referenced)),
                Err(message) => self.wrong(address.referenced, format!("machine {machine}: {message}")),
            }
        }
        if end.addresses.is_empty() {
            for subnet in &link.subnets {
                match nth_host(subnet.value, nth) {
                    Some(found) => addresses.push((found, at)),
                    None => self.wrong(
                        at,
                        format!(
                            "subnet {} has no address left for machine {machine}: \
                        take a larger one",
                            subnet.value
                        ),
                    ),
                }
            }
        }
        for (address, at) in &addresses {
            self.address(&machine, address.ip(), *at);
        }
        End { machine, interface, addresses: addresses.into_iter().map(|(address, _)| address).collect() }
    }

    fn interface(&mut self, machine: &str, wanted: Option<&IfName>, at: Location) -> IfName {
        let key = |name: &IfName| (machine.to_owned(), name.to_string());
        let free = |number: usize| format!("eth{number}").parse::<IfName>().ok();
        let mut names = (0..).filter_map(free);
        let first = names.find(|name| !self.interfaces.contains_key(&key(name)));
        let name = wanted.cloned().or(first).unwrap_or_else(|| "eth0".parse().expect("eth0 is a name"));
        match self.interfaces.get(&key(&name)) {
            Some((line, column)) => {
                let message = format!("machine {machine} has an interface {name} at {line}:{column} already");
                self.wrong(at, message + ": name another");
            }
            None if name.as_str() == "lo" || name.as_str() == STORE => {
                self.wrong(at, format!("machine {machine}: {name} is taken on every machine: name another"));
            }
            None => drop(self.interfaces.insert(key(&name), position(at))),
        }
        name
    }

    fn address(&mut self, machine: &str, address: IpAddr, at: Location) {
        match self.addresses.get(&address) {
            Some((other, (line, column))) => {
                let message = format!("machine {machine}: {address} is machine {other}'s at {line}:{column}");
                self.wrong(at, message + " already: take another");
            }
            None => drop(self.addresses.insert(address, (machine.to_owned(), position(at)))),
        }
    }

    fn networks(&mut self, file: &File) {
        for network in &file.networks {
            let name = network.value.name.as_str().to_owned();
            if self.networks.insert(name.clone(), network.value.clone()).is_some() {
                self.wrong(network.referenced, format!("network {name} is there twice: leave one of them"));
            }
            self.ensure_shared(file, network);
        }
        let mut services = BTreeSet::new();
        for service in &file.services {
            let name = &service.value.name;
            if !services.insert(name) {
                self.wrong(service.referenced, format!("service {name} is there twice: leave one of them"));
            }
            for network in &service.value.networks {
                self.ensure_network(&format!("service {name}"), network.as_str(), service.referenced);
            }
        }
    }

    /// What several machines are to have in common, their agents have to share.
    fn ensure_shared(&mut self, file: &File, network: &Spanned<Network>) {
        let agents = file.machines.iter().filter(|machine| machine.agent).count();
        if network.value.overlay().is_some() && agents > 1 && file.store.is_none() {
            let message =
                format!("network {} is an overlay, and the agents share nothing", network.value.name);
            self.wrong(network.referenced, message + ": add `store: etcd`");
        }
    }

    fn ensure_network(&mut self, who: &str, name: &str, at: Location) {
        if !self.networks.contains_key(name) {
            let known: Vec<&str> = self.networks.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            self.wrong(
                at,
                format!("{who}: there is no network {name}: there are {known}; add it to `networks`"),
            );
        }
    }

    fn container(&mut self, container: &file::Container, hosts: &[&str]) -> Vec<Container> {
        let (name, at) = (container.name.value.as_str(), container.name.referenced);
        let machine = self.machine_of(container, hosts);
        let mut joined = BTreeSet::new();
        for join in &container.networks {
            let network = join.value.0.name.as_str();
            self.ensure_network(&format!("container {name}"), network, join.referenced);
            if !joined.insert(network) {
                let message = format!("container {name} is on network {network} twice: leave one of them");
                self.wrong(join.referenced, message);
            }
            self.join(name, container.replicas.is_some(), &join.value.0);
        }
        if container.networks.is_empty() && !container.publish.is_empty() {
            let message =
                format!("container {name} publishes ports and is on no network: name one in `networks`");
            self.wrong(at, message);
        }
        let names = match &container.replicas {
            None => vec![name.to_owned()],
            Some(count) if (1..=MOST_REPLICAS).contains(&count.value) => {
                (1..=count.value).map(|number| format!("{name}-{number}")).collect()
            }
            Some(count) => {
                let message =
                    format!("container {name}: {} replicas: take 1 to {MOST_REPLICAS}", count.value);
                self.wrong(count.referenced, message);
                return Vec::new();
            }
        };
        names.iter().for_each(|name| self.name("container", name, at));
        let one = |name: String| Container {
            name,
            machine: machine.clone(),
            joins: container.networks.iter().map(|join| join.value.0.plain()).collect(),
            labels: container.labels.clone(),
            publish: container.publish.iter().map(|port| port.value.clone()).collect(),
            env: container.env.clone(),
            command: container.command.clone(),
        };
        names.into_iter().map(one).collect()
    }

    fn machine_of(&mut self, container: &file::Container, hosts: &[&str]) -> String {
        let (name, at) = (container.name.value.as_str(), container.name.referenced);
        match (&container.machine, hosts) {
            (Some(machine), _) => {
                let (word, at) = (machine.value.as_str(), machine.referenced);
                if !self.machines.contains(word) {
                    let known: Vec<&str> = self.machines.iter().map(String::as_str).collect();
                    let known = known.join(", ");
                    self.wrong(
                        at,
                        format!("container {name}: there is no machine {word}: there are {known}"),
                    );
                } else if !hosts.contains(&word) && !container.networks.is_empty() {
                    let message =
                        format!("container {name} is on a network, and machine {word} has no agent");
                    self.wrong(at, message + " that keeps it: take `agent: false` away, or another machine");
                }
                word.to_owned()
            }
            (None, [only]) => (*only).to_owned(),
            (None, _) => {
                let message = format!("container {name}: several machines, or none, have an agent");
                self.wrong(at, message + ": say which one it is on, such as `machine: host`");
                String::new()
            }
        }
    }

    fn join(&mut self, container: &str, is_many: bool, join: &file::Join) {
        let subnets: Vec<IpNetwork> = self
            .networks
            .get(join.name.as_str())
            .map_or(Vec::new(), |network| network.subnets.iter().map(|subnet| subnet.subnet).collect());
        for address in &join.addresses {
            let (ip, at) = (address.value, address.referenced);
            if is_many {
                let message = format!("container {container} has replicas, which cannot share {ip}");
                self.wrong(at, message + ": leave the address out");
            } else if !subnets.iter().any(|subnet| subnet.contains(ip)) {
                let known: Vec<String> = subnets.iter().map(ToString::to_string).collect();
                let known = if known.is_empty() { "none: name one".to_owned() } else { known.join(", ") };
                let message =
                    format!("container {container}: {ip} is not in a subnet of network {}", join.name);
                self.wrong(at, message + &format!(", which are {known}"));
            }
        }
    }
}

impl file::Join {
    fn plain(&self) -> Join {
        Join {
            network: self.name.clone(),
            addresses: self.addresses.iter().map(|address| address.value).collect(),
            aliases: self.aliases.clone(),
        }
    }
}

/// An address with its prefix length, which is that of the subnet where it says none.
fn address_of(text: &str, link: &file::Link) -> Result<IpNetwork, String> {
    let subnets = || link.subnets.iter().map(|subnet| subnet.value);
    let known = || subnets().map(|subnet| subnet.to_string()).collect::<Vec<_>>().join(", ");
    let outside = |ip| format!("{ip} is not in a subnet of the link, which are {}", known());
    let is_free = |ip: IpAddr| link.subnets.is_empty() || subnets().any(|subnet| subnet.contains(ip));
    if text.contains('/') {
        let wrong = |_| format!("{text:?} is no address with a prefix length: write it as 192.0.2.1/24");
        let address: IpNetwork = text.parse().map_err(wrong)?;
        return if is_free(address.ip()) { Ok(address) } else { Err(outside(address.ip())) };
    }
    let ip: IpAddr = text.parse().map_err(|_| format!("{text:?} is no address: write it as 192.0.2.1/24"))?;
    if link.subnets.is_empty() {
        return Err(format!("{ip} has no prefix length: write it as {ip}/24, or give the link `subnets`"));
    }
    let subnet = subnets().find(|subnet| subnet.contains(ip)).ok_or_else(|| outside(ip))?;
    IpNetwork::new(ip, subnet.prefix()).map_err(|error| error.to_string())
}

/// The address of the link's end with that number, from 0: the first that hosts may have is that of end 0.
fn nth_host(subnet: IpNetwork, nth: usize) -> Option<IpNetwork> {
    let offset = u128::try_from(nth).ok()? + 1;
    let ip = match subnet.network() {
        IpAddr::V4(first) => {
            let ip = u32::from(first).checked_add(u32::try_from(offset).ok()?)?;
            (IpAddr::from(ip.to_be_bytes()) != subnet.broadcast()).then(|| IpAddr::from(ip.to_be_bytes()))?
        }
        IpAddr::V6(first) => IpAddr::from(u128::from(first).checked_add(offset)?.to_be_bytes()),
    };
    subnet.contains(ip).then(|| IpNetwork::new(ip, subnet.prefix()).ok()).flatten()
}
