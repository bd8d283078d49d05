//! What becomes of an interface once it is in the container: sysctls, addresses, up, routes. Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{IfName, Mac};
use zeugma_plan::{AddressFlags, Family, LinkChange, Plan, RouteSpec, Side, Step, Sysctl};
use zeugma_protocol::{CniResult, Interface, Route};
use zeugma_upkeep::forwarding_path;

use super::{Error, Place};

/// Whether IPv6 addresses are probed for duplicates before they are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum DuplicateDetection {
    /// Usable at once: the IPAM gives every address once.
    #[default]
    Off,
    /// As the kernel does by default.
    On,
}

impl From<bool> for DuplicateDetection {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

/// How an interface is set up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) duplicate_detection: DuplicateDetection,
    /// The mark that the interface gets when it is set up; none where it bears none.
    pub(crate) mark: Option<String>,
    /// The Ethernet address, where the kernel does not take it when the link is made.
    pub(crate) mac: Option<Mac>,
    /// Addresses come without the route to their subnet.
    pub(crate) no_subnet_route: bool,
    /// Routes of the plugin's own, before the IPAM's.
    pub(crate) routes: Vec<RouteSpec>,
}

/// Sysctls first, while the interface is down; then addresses, up, routes. All goes with the interface.
pub(crate) fn steps(
    plan: &mut Plan,
    name: &IfName,
    addressed: &CniResult,
    setup: &Setup,
) -> Result<(), Error> {
    for sysctl in sysctls(name, addressed, setup.duplicate_detection) {
        plan.push_lasting(Step::SetSysctl(Side::Container, sysctl));
    }
    let flags = AddressFlags {
        nodad: setup.duplicate_detection == DuplicateDetection::Off,
        no_subnet_route: setup.no_subnet_route,
    };
    for ip in &addressed.ips {
        plan.push_lasting(Step::AddAddress(Side::Container, name.clone(), ip.address, flags));
    }
    let up =
        LinkChange { up: Some(true), alias: setup.mark.clone(), mac: setup.mac, ..LinkChange::default() };
    plan.push_lasting(Step::SetLink(Side::Container, name.clone(), up));
    for route in &setup.routes {
        plan.push_lasting(Step::AddRoute(Side::Container, route.clone()));
    }
    for route in &addressed.routes {
        plan.push_lasting(Step::AddRoute(Side::Container, spec(route, name, addressed)?));
    }
    Ok(())
}

fn sysctls(name: &IfName, addressed: &CniResult, duplicate_detection: DuplicateDetection) -> Vec<Sysctl> {
    if addressed.ips.is_empty() {
        return Vec::new();
    }
    let mut sysctls = vec![sysctl(format!("net/ipv4/conf/{name}/arp_notify"), "1")];
    if addressed.ips.iter().any(|ip| ip.address.is_ipv6()) {
        for link in ["lo", name.as_str()] {
            sysctls.push(sysctl(format!("net/ipv6/conf/{link}/disable_ipv6"), "0"));
        }
        sysctls.push(sysctl(format!("net/ipv6/conf/{name}/keep_addr_on_down"), "1"));
        sysctls.push(sysctl(format!("net/ipv6/conf/{name}/ndisc_notify"), "1"));
        if duplicate_detection == DuplicateDetection::Off {
            sysctls.push(sysctl(format!("net/ipv6/conf/{name}/accept_dad"), "0"));
        }
    }
    sysctls
}

/// A sysctl that some kernels lack: those without IPv6.
pub(crate) fn sysctl(path: String, value: &str) -> Sysctl {
    Sysctl { path, value: value.into(), optional: true }
}

/// The host forwards the families of these addresses.
pub(crate) fn forwarding(plan: &mut Plan, addressed: &CniResult) {
    for family in Family::ALL {
        if addressed.ips.iter().any(|ip| Family::of(ip.address.ip()) == family) {
            let path = forwarding_path(family);
            plan.push_lasting(Step::SetSysctl(Side::Host, sysctl(path.into(), "1")));
        }
    }
}

/// A route without a next hop goes to the gateway of its family's first address, unless its scope is the link.
fn spec(route: &Route, dev: &IfName, addressed: &CniResult) -> Result<RouteSpec, Error> {
    const LINK: u8 = 253;
    let family = Family::of(route.dst.ip());
    let of_family = addressed.ips.iter().filter(|ip| Family::of(ip.address.ip()) == family);
    let gw = route.gw.or_else(|| of_family.clone().find_map(|ip| ip.gateway));
    let gw = gw.filter(|gw| route.scope.is_none_or(|scope| scope < LINK) || route.gw == Some(*gw));
    if gw.is_none() && route.scope.is_none() {
        return Err(Error::NoGateway(route.dst));
    }
    let Route { dst, mtu, advmss, priority, table, scope, .. } = *route;
    Ok(RouteSpec { gw, mtu, advmss, priority, table, scope, ..RouteSpec::new(dst, dev.clone()) })
}

/// The first address of a subnet behind the network's own.
pub(crate) fn first_host(address: IpNetwork) -> Option<IpAddr> {
    match address {
        IpNetwork::V4(v4) if v4.prefix() < 32 => {
            Some(IpAddr::from((u32::from(v4.network()) + 1).to_be_bytes()))
        }
        IpNetwork::V6(v6) if v6.prefix() < 128 => {
            Some(IpAddr::from((u128::from(v6.network()) + 1).to_be_bytes()))
        }
        IpNetwork::V4(_) | IpNetwork::V6(_) => None,
    }
}

/// An address that stands for the whole network it is in.
pub(crate) fn whole(address: IpAddr) -> IpNetwork {
    IpNetwork::from(address)
}

/// What the kernel would refuse with a bare number, or take and not carry.
pub(crate) fn check_mtu(mtu: Option<u32>, addressed: &CniResult) -> Result<(), Error> {
    const LEAST_V4: u32 = 68;
    const LEAST_V6: u32 = 1280;
    const MOST: u32 = 65535;
    let has_v6 = addressed.ips.iter().any(|ip| ip.address.is_ipv6());
    let least = if has_v6 { LEAST_V6 } else { LEAST_V4 };
    match mtu.filter(|mtu| !(least..=MOST).contains(mtu)) {
        Some(mtu) => Err(Error::Mtu { mtu, least, most: MOST }),
        None => Ok(()),
    }
}

/// An interface in a result, on the host.
pub(crate) fn on_host(name: &IfName, mac: Option<Mac>, mtu: Option<u32>) -> Interface {
    Interface { name: name.to_string(), mac, mtu, ..Interface::default() }
}

/// The container's interface in a result.
pub(crate) fn in_container(place: &Place, mac: Option<Mac>, mtu: Option<u32>) -> Interface {
    Interface {
        sandbox: place.netns.as_ref().map(|netns| netns.path.to_string_lossy().into_owned()),
        ..on_host(place.ifname(), mac, mtu)
    }
}

/// A result of the interfaces, every address on the one at `index`.
pub(crate) fn result(mut addressed: CniResult, interfaces: Vec<Interface>, index: usize) -> CniResult {
    addressed.interfaces = interfaces;
    for ip in &mut addressed.ips {
        ip.interface = Some(index);
    }
    addressed
}
