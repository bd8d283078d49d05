//! Looks at the host. What cannot be seen is noted and does not keep the rest from being seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::Value;
use zeugma_agent::heal::{Mode, repair};
use zeugma_api::{NETWORKS, NetworkView, OverlayView, PEERS, STATUS, Status};
use zeugma_journal::{Journal, OverlayStates, run_dir, state_dir};
use zeugma_kernel::overlay::Wireguard;
use zeugma_kernel::{Kernel, disk, is_synchronised, listener};
use zeugma_model::{Backend, HostAddress, IfName, Network, NetworkName, PLUGINS, Protocol};
use zeugma_networks::{Directory, List};
use zeugma_plan::{Family, Side};

use super::fills::fills;
use super::observed::{Agent, Features, Fill, Listed, Observed, Place, Plugins, Purpose, Taken, Tunnel};
use crate::client::Question;
use crate::host::filters::Filters;
use crate::host::{self, Attached, Link};
use crate::install;
use crate::network::Places;

/// Where `host-local` keeps leases unless a list says otherwise.
const LEASES: &str = "/var/lib/cni/networks";

/// Notes why something cannot be seen.
struct Notes<'a>(&'a mut Vec<String>);

impl Notes<'_> {
    fn or_default<T: Default, E: Display>(&mut self, seen: Result<T, E>) -> T {
        seen.unwrap_or_else(|why| {
            self.0.push(why.to_string());
            T::default()
        })
    }
}

/// All that checks judge by.
pub(super) fn observe(places: &Places) -> Observed {
    let mut unseen = Vec::new();
    let mut notes = Notes(&mut unseen);
    let mut kernel = Kernel::host();
    let mut observed = Observed {
        attached: notes.or_default(host::attached(&Journal::default())),
        links: notes.or_default(host::links(&mut kernel)),
        filters: notes.or_default(Filters::observe(&mut kernel)),
        overlays: notes.or_default(OverlayStates::default().all()),
        is_clock_kept: is_synchronised(),
        ..Observed::default()
    };
    let default = notes.or_default(kernel.default_link(Side::Host));
    observed.uplink = default.map(|(name, _)| name).or_else(|| outward(&observed.links));
    observed.driver = observed.uplink.as_ref().and_then(driver);
    observed.kernel = features(&mut kernel, &mut notes);
    observed.no_nftables = kernel.can_filter().err().map(|why| why.to_string());
    observed.legacy = Family::ALL.iter().flat_map(|family| kernel.legacy_tables(*family)).collect();
    let lists = notes.or_default(Directory::at(&places.cni_conf_dir).lists());
    observed.orphans = orphans(&lists, &observed.attached);
    observed.lists = lists.iter().map(listed).collect();
    observed.plugins = plugins(&places.bin_dir, &observed.lists);
    observed.agent = agent();
    observed.networks = networks(&observed.agent);
    observed.disks = disks();
    observed.state_dir = state_dir();
    observed.wireguards = wireguards();
    observed.attached.iter_mut().for_each(look_inside);
    let steps = repair(Mode::DryRun).map(|repaired| (repaired.steps, repaired.failures));
    observed.repair = notes.or_default(steps);
    observed.sysctls = sysctls(&kernel, &observed);
    observed.taken = taken(&observed);
    observed.fills = filled(&mut kernel, &observed);
    observed.unseen = unseen;
    observed
}

/// Without a default route: the first link with an address that is neither the host's own end nor one of ours.
fn outward(links: &BTreeMap<IfName, Link>) -> Option<IfName> {
    let is_ours = |link: &Link| link.state.alias.as_deref().is_some_and(|alias| alias.starts_with("zeugma"));
    let leads_out = |link: &Link| {
        let mut addresses = link.addresses.iter().map(|address| address.ip());
        !is_ours(link) && addresses.any(|ip| !ip.is_loopback())
    };
    links.iter().find(|(_, link)| leads_out(link)).map(|(name, _)| name.clone())
}

fn driver(link: &IfName) -> Option<String> {
    let end = fs::read_link(format!("/sys/class/net/{link}/device/driver")).ok()?;
    Some(end.file_name()?.to_string_lossy().into_owned())
}

fn features(kernel: &mut Kernel, notes: &mut Notes<'_>) -> Features {
    Features {
        vxlan: notes.or_default(kernel.knows_vxlan()),
        wireguard: notes.or_default(Wireguard::open().map(|found| found.is_some())),
        tun: Path::new("/dev/net/tun").exists(),
    }
}

/// The MTU of a container's interface.
fn look_inside(one: &mut Attached) {
    let Some(netns) = one.netns.as_ref().filter(|_| one.is_alive) else { return };
    let Ok(mut kernel) = Kernel::with_container(&netns.path) else { return };
    one.mtu = kernel.link(Side::Container, &one.id.ifname).ok().flatten().map(|state| state.mtu);
}

fn listed(list: &List) -> Listed {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut types = Vec::new();
    for plugin in list.plugins() {
        types.extend(text(&plugin["type"]));
        types.extend(text(&plugin["ipam"]["type"]));
    }
    let named = list.plugins().iter().find_map(|plugin| plugin["bridge"].as_str()?.parse().ok());
    let network = list.network();
    let ours = network.as_ref().and_then(Network::bridge);
    Listed {
        network: list.name.clone(),
        path: list.path.clone(),
        types,
        is_ours: list.is_ours(),
        bridge: named.or(ours),
        tunnel: network.as_ref().and_then(tunnel),
    }
}

fn tunnel(network: &Network) -> Option<Tunnel> {
    let options = network.overlay()?;
    let link = match options.backend {
        Backend::HostGw => return None,
        Backend::Vxlan | Backend::Auto => network.name.vxlan(),
        Backend::Wireguard => network.name.wireguard(),
    };
    Some(Tunnel { link, backend: options.backend, port: options.port()?.get() })
}

fn plugins(directory: &Path, lists: &[Listed]) -> Plugins {
    let mut names: BTreeSet<String> = lists.iter().flat_map(|list| list.types.iter().cloned()).collect();
    names.insert(install::EXECUTABLE.into());
    names.extend(PLUGINS.iter().flat_map(|plugin| [(*plugin).to_owned(), format!("zeugma-{plugin}")]));
    let files = names.into_iter().map(|name| {
        let place = place(directory, &name);
        (name, place)
    });
    Plugins { files: files.collect(), directory: directory.into(), is_other_build: is_other_build(directory) }
}

fn place(directory: &Path, name: &str) -> Place {
    let path = directory.join(name);
    if path.symlink_metadata().is_err() {
        Place::Missing
    } else if !path.exists() {
        Place::Dangling
    } else if name == install::EXECUTABLE || install::is_ours(directory, &path) {
        Place::Ours
    } else {
        Place::Foreign
    }
}

fn is_other_build(directory: &Path) -> Option<bool> {
    let beside = fs::read(install::beside_this_executable().ok()?).ok()?;
    Some(fs::read(directory.join(install::EXECUTABLE)).ok()? != beside)
}

fn agent() -> Agent {
    if !run_dir().join(zeugma_api::SOCKET).exists() {
        return Agent::Away;
    }
    let overlays = || Question::get(PEERS).answer::<Vec<OverlayView>>().unwrap_or_default();
    match Question::get(STATUS).answer::<Status>() {
        Ok(status) => Agent::Answers(Box::new(status), overlays()),
        // A socket without anybody is what one that was killed leaves behind.
        Err(why) if why.to_string().starts_with("no agent runs") => Agent::Away,
        Err(why) => Agent::Silent(why.to_string()),
    }
}

/// Where something of ours is written.
fn disks() -> Vec<(PathBuf, zeugma_kernel::Disk)> {
    let paths = [state_dir(), PathBuf::from(LEASES), run_dir()].into_iter().filter(|path| path.exists());
    paths.filter_map(|path| disk(&path).map(|disk| (path, disk))).collect()
}

/// Processes of `zeugma wg`, by their command lines.
fn wireguards() -> Vec<(u32, IfName)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let own = fs::metadata("/proc/self/ns/net").ok()?;
        let other = fs::metadata(entry.path().join("ns/net")).ok()?;
        let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let words: Vec<&str> = line.split('\0').collect();
        let is_ours = words.first()?.rsplit('/').next() == Some("zeugma") && words.get(1) == Some(&"wg");
        let is_here =
            std::os::unix::fs::MetadataExt::ino(&own) == std::os::unix::fs::MetadataExt::ino(&other);
        let link =
            words.get(2..)?.iter().find_map(|word| word.parse().ok().filter(|_| !word.starts_with('-')));
        link.filter(|_| is_ours && is_here).map(|link| (pid, link))
    };
    processes.filter_map(of).collect()
}

/// Leases of networks of ours whose container has no record.
fn orphans(lists: &[List], attached: &[Attached]) -> Vec<PathBuf> {
    let mut orphans = Vec::new();
    for list in lists.iter().filter(|list| list.is_ours()) {
        let folder = Path::new(LEASES).join(list.name.as_str());
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let is_lease = entry.file_name().to_str().is_some_and(|name| name.parse::<IpAddr>().is_ok());
            let Ok(text) = fs::read_to_string(entry.path()) else { continue };
            let owner = text.lines().next().unwrap_or_default().trim();
            let is_owner = |one: &Attached| one.id.network == list.name && one.id.container.as_str() == owner;
            if is_lease && !attached.iter().any(is_owner) {
                orphans.push(entry.path());
            }
        }
    }
    orphans.sort();
    orphans
}

fn sysctls(kernel: &Kernel, observed: &Observed) -> BTreeMap<String, String> {
    let mut paths: Vec<String> = [
        "net/ipv4/ip_forward",
        "net/ipv6/conf/all/forwarding",
        "net/ipv4/conf/all/rp_filter",
        "net/bridge/bridge-nf-call-iptables",
        "net/bridge/bridge-nf-call-ip6tables",
    ]
    .map(str::to_owned)
    .into();
    let bridges = observed.attached.iter().filter_map(|one| one.bridge.as_ref());
    let tunnels = observed.overlays.iter().filter_map(|overlay| overlay.tunnel.as_ref());
    let links: BTreeSet<&IfName> = bridges.chain(tunnels).chain(&observed.uplink).collect();
    for link in links {
        paths.extend(["ipv4", "ipv6"].map(|family| format!("net/{family}/conf/{link}/forwarding")));
        paths.push(format!("net/ipv4/conf/{link}/rp_filter"));
    }
    let read = |path: String| Some((path.clone(), kernel.sysctl(Side::Host, &path).ok()??.trim().to_owned()));
    paths.into_iter().filter_map(read).collect()
}

fn taken(observed: &Observed) -> Vec<Taken> {
    let mut taken = Vec::new();
    let mut look = |protocol, address: SocketAddr, purpose: &Purpose| {
        let by = listener(protocol, address);
        taken.extend(by.map(|by| Taken { protocol, address, by, purpose: purpose.clone() }));
    };
    let mut asked = BTreeSet::new();
    for one in observed.living() {
        for port in &one.ports {
            let addresses: Vec<IpAddr> = match port.host_address {
                HostAddress::One(address) => vec![address],
                HostAddress::AnyV4 => vec![Family::V4.unspecified()],
                HostAddress::AnyV6 => vec![Family::V6.unspecified()],
                HostAddress::Any => Family::ALL.map(Family::unspecified).into(),
            };
            let purpose = Purpose::Published(one.shown());
            for address in addresses.into_iter().filter(|address| one.address_like(*address).is_some()) {
                look(port.protocol, (address, port.host_port.get()).into(), &purpose);
            }
        }
        asked.extend(one.asks.iter().copied());
    }
    for gateway in asked {
        look(Protocol::Udp, (gateway, 53).into(), &Purpose::Names);
    }
    for (list, tunnel) in observed.lists.iter().filter_map(|list| Some((list, list.tunnel.as_ref()?))) {
        // A program that has both families' is told of once.
        let addresses = Family::ALL.map(|family| SocketAddr::new(family.unspecified(), tunnel.port));
        let first = addresses.into_iter().find(|address| listener(Protocol::Udp, *address).is_some());
        let purpose = Purpose::Tunnel(list.network.clone(), tunnel.clone());
        first.into_iter().for_each(|address| look(Protocol::Udp, address, &purpose));
    }
    taken
}

fn filled(kernel: &mut Kernel, observed: &Observed) -> Vec<Fill> {
    let agent = match &observed.agent {
        Agent::Answers(status, _) => Some(status.pid),
        Agent::Away | Agent::Silent(_) => None,
    };
    // Where they cannot be listed, all of them count.
    let lasting = Family::ALL.map(|family| kernel.lasting_neighbours(family).unwrap_or_default() as u64);
    fills(Path::new("/proc"), agent, lasting)
}

/// Names of the networks that the agent's catalogue has; none when it did not say.
fn networks(agent: &Agent) -> Option<BTreeSet<NetworkName>> {
    let Agent::Answers(status, _) = agent else { return None };
    // One that has been away from the beginning on may know less than there is.
    let is_well = status.catalogue.why.is_none();
    let views: Vec<NetworkView> = is_well.then(|| Question::get(NETWORKS).answer().ok()).flatten()?;
    Some(views.into_iter().map(|view| view.network.name).collect())
}
