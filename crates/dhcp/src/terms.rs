//! What a server grants: the options of a reply as meaningful values, and as a CNI result.

use std::net::{IpAddr, Ipv4Addr};

use dhcproto::v4::{DhcpOption, DhcpOptions, OptionCode};
use ipnetwork::{IpNetwork, Ipv4Network};
use serde::{Deserialize, Serialize};
use zeugma_protocol::{CniResult, Dns, Ip, Route};

/// The lease time where the server names none, in seconds: the reference's.
const DEFAULT_LEASE: u32 = 3600;
/// A lease without an end (RFC 2131, 3.3).
pub(crate) const INFINITE: u32 = u32::MAX;
/// `RT_SCOPE_LINK` of rtnetlink(7).
const SCOPE_LINK: u8 = 253;

/// An address and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The client's address.
    pub address: Ipv4Addr,
    /// The server that grants it (option 54).
    pub server: Ipv4Addr,
    /// Its prefix length (option 1).
    pub prefix: Option<u8>,
    /// Routers, the first one preferred (option 3).
    pub routers: Vec<Ipv4Addr>,
    /// Destination and router each (option 33).
    pub static_routes: Vec<(Ipv4Network, Ipv4Addr)>,
    /// Destination and router each (option 121); 0.0.0.0 is no router: on link.
    pub classless_routes: Vec<(Ipv4Network, Ipv4Addr)>,
    /// Name servers (option 6).
    pub nameservers: Vec<Ipv4Addr>,
    /// The domain (option 15).
    pub domain: Option<String>,
    /// Search domains (option 119).
    pub search: Vec<String>,
    /// Seconds until the lease ends (option 51); `u32::MAX` for never.
    pub lease: u32,
    /// Seconds until it is to be renewed (option 58, T1).
    pub renew: u32,
    /// Seconds until any server may renew it (option 59, T2).
    pub rebind: u32,
}

impl Terms {
    /// None without an address for a host or without a server: nobody could accept or renew that.
    pub(crate) fn of(address: Ipv4Addr, options: &DhcpOptions) -> Option<Self> {
        let DhcpOption::ServerIdentifier(server) = *options.get(OptionCode::ServerIdentifier)? else {
            return None;
        };
        let (lease, renew, rebind) = times(options);
        is_host(address).then(|| Self {
            address,
            server,
            prefix: prefix(options),
            routers: addresses(options, OptionCode::Router),
            static_routes: static_routes(options),
            classless_routes: classless_routes(options),
            nameservers: addresses(options, OptionCode::DomainNameServer),
            domain: domain(options),
            search: search(options),
            lease,
            renew,
            rebind,
        })
    }

    /// The address with its prefix length; none when the server gave no subnet mask.
    pub fn network(&self) -> Option<IpNetwork> {
        IpNetwork::new(self.address.into(), self.prefix?).ok()
    }

    /// As a CNI result; none when the server gave no subnet mask. Classless routes stand for all others, the
    /// default route among them (RFC 3442).
    pub fn result(&self) -> Option<CniResult> {
        let gateway = self.routers.first().copied();
        let ip = Ip { address: self.network()?, gateway: gateway.map(IpAddr::V4), interface: None };
        let default = gateway.map(|gateway| (everything(), gateway));
        let classful = self.static_routes.iter().copied().chain(default);
        let routes = match &self.classless_routes[..] {
            [] => classful.map(route).collect(),
            classless => classless.iter().copied().map(route).collect(),
        };
        let dns = Dns {
            nameservers: self.nameservers.iter().map(Ipv4Addr::to_string).collect(),
            domain: self.domain.clone(),
            search: self.search.clone(),
            options: Vec::new(),
        };
        Some(CniResult { interfaces: Vec::new(), ips: vec![ip], routes, dns })
    }
}

/// A next hop of 0.0.0.0 with scope link is how the reference writes "on link", and plugins read it.
fn route((dst, router): (Ipv4Network, Ipv4Addr)) -> Route {
    let scope = router.is_unspecified().then_some(SCOPE_LINK);
    Route {
        dst: dst.into(),
        gw: Some(router.into()),
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope,
    }
}

fn everything() -> Ipv4Network {
    network(Ipv4Addr::UNSPECIFIED, 0)
}

/// The network of this length that `address` is in.
fn network(address: Ipv4Addr, prefix: u8) -> Ipv4Network {
    let whole = Ipv4Network::new(address, prefix.min(32)).expect("32 is the longest prefix");
    Ipv4Network::new(whole.network(), whole.prefix()).expect("the prefix was valid before")
}

fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback())
}

/// Lease, T1 and T2 in ascending order T1 < T2 < lease; what the server left out or got wrong is 1/2 and 7/8.
fn times(options: &DhcpOptions) -> (u32, u32, u32) {
    let seconds = |code| match options.get(code) {
        Some(
            DhcpOption::AddressLeaseTime(seconds)
            | DhcpOption::Renewal(seconds)
            | DhcpOption::Rebinding(seconds),
        ) => Some(*seconds).filter(|seconds| *seconds > 0),
        _ => None,
    };
    // Three seconds are the least that has room for T1 and T2.
    let lease = seconds(OptionCode::AddressLeaseTime).unwrap_or(DEFAULT_LEASE).max(3);
    let rebind = seconds(OptionCode::Rebinding).filter(|t2| *t2 > 1 && *t2 < lease);
    let rebind = rebind.unwrap_or(lease - (lease / 8).max(1));
    let renew = seconds(OptionCode::Renewal).filter(|t1| *t1 < rebind);
    (lease, renew.unwrap_or((lease / 2).min(rebind - 1)), rebind)
}

/// A mask with holes counts as none.
fn prefix(options: &DhcpOptions) -> Option<u8> {
    match options.get(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => ipnetwork::ipv4_mask_to_prefix(*mask).ok(),
        _ => None,
    }
}

fn addresses(options: &DhcpOptions, code: OptionCode) -> Vec<Ipv4Addr> {
    let listed = match options.get(code) {
        Some(DhcpOption::Router(list) | DhcpOption::DomainNameServer(list)) => list.clone(),
        _ => Vec::new(),
    };
    listed.into_iter().filter(|address| !address.is_unspecified()).collect()
}

fn static_routes(options: &DhcpOptions) -> Vec<(Ipv4Network, Ipv4Addr)> {
    let Some(DhcpOption::StaticRoutingTable(list)) = options.get(OptionCode::StaticRoutingTable) else {
        return Vec::new();
    };
    // The default route is not for this option to give (RFC 2132, 5.8).
    let legal = list.iter().filter(|(to, router)| !to.is_unspecified() && is_host(*router));
    legal.map(|(to, router)| (classful(*to), *router)).collect()
}

/// The network of its class; an address that is none stands for a host.
fn classful(address: Ipv4Addr) -> Ipv4Network {
    let prefix = match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        192..224 => 24,
        224.. => 32,
    };
    let of_class = network(address, prefix);
    if of_class.ip() == address { of_class } else { network(address, 32) }
}

fn classless_routes(options: &DhcpOptions) -> Vec<(Ipv4Network, Ipv4Addr)> {
    let Some(DhcpOption::ClasslessStaticRoute(list)) = options.get(OptionCode::ClasslessStaticRoute) else {
        return Vec::new();
    };
    list.iter().map(|(to, router)| (network(to.addr(), to.prefix_len()), *router)).collect()
}

/// Some servers end it with a NUL.
fn domain(options: &DhcpOptions) -> Option<String> {
    match options.get(OptionCode::DomainName) {
        Some(DhcpOption::DomainName(name)) => domain_name(name.trim_end_matches('\0')),
        _ => None,
    }
}

fn search(options: &DhcpOptions) -> Vec<String> {
    match options.get(OptionCode::DomainSearch) {
        Some(DhcpOption::DomainSearch(names)) => {
            names.iter().filter_map(|name| domain_name(&name.to_ascii())).collect()
        }
        _ => Vec::new(),
    }
}

/// These go into resolv.conf as they are: only what a domain name may consist of passes.
fn domain_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!name.is_empty() && name.len() < 254 && name.bytes().all(legal)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use crate::reply::Reply;
    use crate::reply::tests::reply;

    use super::*;

    const SERVER: (u8, &[u8]) = (54, &[10, 0, 0, 1]);
    const MASK: (u8, &[u8]) = (1, &[255, 255, 255, 0]);
    const ROUTER: (u8, &[u8]) = (3, &[10, 0, 0, 1, 10, 0, 0, 2]);

    fn terms(options: &[(u8, &[u8])]) -> Terms {
        let options = [&[SERVER, MASK], options].concat();
        Reply::parse(&reply(7, 5, [10, 0, 0, 9], &options)).unwrap().terms.unwrap()
    }

    #[track_caller]
    fn check_routes(options: &[(u8, &[u8])], expected: &[&str]) {
        let routes = terms(options).result().unwrap().routes;
        let text = |route: Route| {
            let scope = route.scope.map(|scope| format!(" scope {scope}")).unwrap_or_default();
            format!("{} via {}{scope}", route.dst, route.gw.unwrap())
        };
        assert_eq!(routes.into_iter().map(text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_first_router_is_gateway_and_default_route() {
        let result = terms(&[ROUTER]).result().unwrap();
        assert_eq!(result.ips[0].address.to_string(), "10.0.0.9/24");
        assert_eq!(result.ips[0].gateway, Some("10.0.0.1".parse().unwrap()));
        check_routes(&[ROUTER], &["0.0.0.0/0 via 10.0.0.1"]);
        check_routes(&[], &[]);
    }

    #[test]
    fn static_routes_have_the_length_of_their_class() {
        let table =
            [[10, 0, 0, 0], [10, 0, 0, 3], [172, 16, 0, 0], [10, 0, 0, 3], [192, 168, 1, 7], [10, 0, 0, 3]];
        let expected =
            ["10.0.0.0/8 via 10.0.0.3", "172.16.0.0/16 via 10.0.0.3", "192.168.1.7/32 via 10.0.0.3"];
        check_routes(&[(33, &table.concat())], &expected);
    }

    #[test]
    fn classless_routes_stand_for_all_others() {
        let classless: &[u8] = &[24, 192, 168, 5, 10, 0, 0, 3, 0, 10, 0, 0, 4, 32, 10, 0, 0, 3, 0, 0, 0, 0];
        let expected =
            ["192.168.5.0/24 via 10.0.0.3", "0.0.0.0/0 via 10.0.0.4", "10.0.0.3/32 via 0.0.0.0 scope 253"];
        let table: &[u8] = &[172, 16, 0, 0, 10, 0, 0, 3];
        check_routes(&[ROUTER, (33, table), (121, classless)], &expected);
    }

    #[test]
    fn name_servers_and_domains_are_passed_on() {
        let search: &[u8] = b"\x03eng\x07example\x03com\0\x04shop\xc0\x04";
        let dns = terms(&[(6, &[10, 0, 0, 53, 10, 0, 1, 53]), (15, b"example.com\0"), (119, search)]);
        let dns = dns.result().unwrap().dns;
        assert_eq!(dns.nameservers, ["10.0.0.53", "10.0.1.53"]);
        assert_eq!(dns.domain.as_deref(), Some("example.com"));
        assert_eq!(dns.search, ["eng.example.com", "shop.example.com"]);
    }

    #[test]
    fn a_domain_cannot_bring_lines_into_resolv_conf() {
        assert_eq!(terms(&[(15, b"a.com\nnameserver 6.6.6.6")]).domain, None);
        assert!(terms(&[(119, b"\x05a\nb c\0")]).search.is_empty());
    }

    #[test]
    fn times_are_the_server_s_as_far_as_they_make_sense() {
        let times = |options: &[(u8, &[u8])]| {
            let terms = terms(options);
            (terms.lease, terms.renew, terms.rebind)
        };
        let (lease, t1, t2) = ((51, &[0, 0, 0, 120][..]), (58, &[0, 0, 0, 2][..]), (59, &[0, 0, 0, 4][..]));
        assert_eq!(times(&[lease, t1, t2]), (120, 2, 4));
        assert_eq!(times(&[lease]), (120, 60, 105));
        assert_eq!(times(&[lease, (58, &[0, 0, 1, 0])]), (120, 60, 105));
        assert_eq!(times(&[lease, (59, &[0, 0, 0, 0])]), (120, 60, 105));
        assert_eq!(times(&[]), (3600, 1800, 3150));
        assert_eq!(times(&[(51, &[0, 0, 0, 1])]), (3, 1, 2));
        assert_eq!(times(&[(51, &[255; 4])]).0, INFINITE);
    }

    #[test]
    fn without_a_mask_there_is_no_result() {
        let of = |mask: &[u8]| {
            let bytes = reply(7, 5, [10, 0, 0, 9], &[SERVER, (1, mask)]);
            Reply::parse(&bytes).unwrap().terms.unwrap().result()
        };
        assert!(of(&[255, 0, 255, 0]).is_none() && of(&[]).is_none());
        assert_eq!(of(&[255, 255, 255, 255]).unwrap().ips[0].address.prefix(), 32);
    }

    #[test]
    fn nobody_can_have_an_address_that_is_no_host_s() {
        for address in [[0; 4], [255; 4], [224, 0, 0, 1], [127, 0, 0, 1]] {
            assert_eq!(Reply::parse(&reply(7, 5, address, &[SERVER])).unwrap().terms, None);
        }
        assert_eq!(Reply::parse(&reply(7, 5, [10, 0, 0, 9], &[])).unwrap().terms, None);
    }
}
