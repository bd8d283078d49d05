//! Which rules and routes make answers leave by the interface that the question came in by. Pure: what is there is
//! handed in.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_kernel::{RouteState, RuleState};
use zeugma_model::IfName;
use zeugma_plan::{Family, Plan, RouteSpec, RuleSpec, Side, Step};
use zeugma_protocol::CniResult;

use super::config::Config;
use super::error::Error;
use crate::routing::{MAIN, free_table};

/// Where the search for tables begins, as the reference has it.
const FIRST_TABLE: u32 = 100;
/// `RT_SCOPE_LINK`.
const LINK: u8 = 253;

/// An address of the container whose packets get a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// The address with its subnet's prefix length.
    pub(super) address: IpNetwork,
    /// The gateway of `prevResult`.
    pub(super) gateway: Option<IpAddr>,
}

impl Source {
    fn family(&self) -> Family {
        Family::of(self.address.ip())
    }

    /// What a rule asks for: the address alone.
    fn host(&self) -> IpNetwork {
        IpNetwork::from(self.address.ip())
    }

    fn subnet(&self) -> IpNetwork {
        let length = self.address.prefix();
        IpNetwork::new(self.address.network(), length).expect("the length is the address's own")
    }

    /// Whether the route is one of the address's subnet: by its source, or by its next hop.
    fn owns(&self, route: &RouteState) -> bool {
        [route.source, route.gw].into_iter().flatten().any(|address| self.address.contains(address))
    }
}

/// What is there, in the container.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed {
    pub(super) rules: Vec<RuleState>,
    /// The tables that have routes.
    pub(super) tables: BTreeSet<u32>,
    /// The interface's routes, in all tables.
    pub(super) routes: Vec<RouteState>,
}

impl Observed {
    /// What the kernel makes of addresses by itself: for a plan that nobody applies.
    pub(super) fn expected(sources: &[Source]) -> Self {
        let routes = sources.iter().map(|source| RouteState {
            dst: Some(source.subnet()),
            gw: None,
            is_ipv6: source.address.is_ipv6(),
            table: MAIN,
            priority: source.address.is_ipv6().then_some(256),
            mtu: None,
            advmss: None,
            scope: if source.address.is_ipv6() { 0 } else { LINK },
            protocol: 2,
            source: source.address.is_ipv4().then(|| source.address.ip()),
            onlink: false,
            is_unicast: true,
            is_multipath: false,
        });
        Self { routes: routes.collect(), ..Self::default() }
    }

    fn main(&self) -> impl Iterator<Item = &RouteState> {
        self.routes.iter().filter(|route| route.table == MAIN && route.is_unicast)
    }

    /// Tables that a rule leads to, or that have routes.
    fn taken(&self) -> BTreeSet<u32> {
        self.tables.iter().copied().chain(self.rules.iter().map(|rule| rule.table)).collect()
    }
}

/// The addresses of the interface. Where a result does not say which interface has an address, it is this one.
pub(super) fn sources(result: &CniResult, ifname: &IfName) -> Result<Vec<Source>, Error> {
    let is_here =
        |index: usize| result.interfaces.get(index).is_none_or(|interface| interface.name == ifname.as_str());
    let mut sources: Vec<Source> = Vec::new();
    for ip in result.ips.iter().filter(|ip| ip.interface.is_none_or(is_here)) {
        if !sources.iter().any(|source| source.address.ip() == ip.address.ip()) {
            sources.push(Source { address: ip.address, gateway: ip.gateway });
        }
    }
    if sources.is_empty() { Err(Error::NoAddress { ifname: ifname.clone() }) } else { Ok(sources) }
}

/// The steps of an ADD, and the rules among them.
pub(super) fn routed(
    config: &Config,
    dev: &IfName,
    sources: &[Source],
    observed: &Observed,
) -> Result<(Plan, Vec<RuleSpec>), Error> {
    let rules = rules(config, sources, observed)?;
    let mut plan = Plan::new();
    for (source, rule) in sources.iter().zip(&rules) {
        if let Config::Own { .. } = config {
            for spec in table_of(config, dev, source, sources, observed) {
                plan.push(Step::AddRoute(Side::Container, RouteSpec { table: Some(rule.table), ..spec }));
            }
        }
        plan.push(Step::AddRule(Side::Container, *rule));
    }
    // Main is emptied last: until then the next hops of the new routes are found by it.
    if let Config::Own { source_hints, .. } = config {
        empty_main(&mut plan, *source_hints, dev, observed);
        if *source_hints {
            hints(&mut plan, dev, sources, observed);
        }
    }
    Ok((plan, rules))
}

/// A table of its own for each address, or the asked one for all.
fn rules(config: &Config, sources: &[Source], observed: &Observed) -> Result<Vec<RuleSpec>, Error> {
    let mut taken = observed.taken();
    let mut rules = Vec::new();
    for source in sources {
        let table = match config {
            Config::Asked { table } => *table,
            Config::Own { .. } => {
                free_table(&taken, FIRST_TABLE).ok_or(Error::NoTable { first: FIRST_TABLE })?
            }
        };
        taken.insert(table);
        rules.push(RuleSpec { from: source.host(), table });
    }
    Ok(rules)
}

/// The routes of an address's table, those on link first: the next hops of the others are found by them.
fn table_of(
    config: &Config,
    dev: &IfName,
    source: &Source,
    sources: &[Source],
    observed: &Observed,
) -> Vec<RouteSpec> {
    let named = config.gateway(source.family());
    let mut moved: Vec<&RouteState> =
        observed.main().filter(|route| is_for(route, source, sources)).collect();
    let has_default = moved.iter().any(|route| route.dst.is_none() && source.owns(route));
    let gateway = named.or(source.gateway.filter(|_| !has_default));
    if gateway.is_some() {
        moved.retain(|route| route.dst.is_some());
    }
    moved.sort_by_key(|route| route.gw.is_some());
    let default =
        gateway.map(|gw| RouteSpec { gw: Some(gw), ..RouteSpec::new(everywhere(source), dev.clone()) });
    moved.into_iter().map(|route| RouteSpec { protocol: None, ..route.spec(dev) }).chain(default).collect()
}

/// A route goes to the addresses whose subnet it is of; one of nobody's subnet serves all of its family.
fn is_for(route: &RouteState, source: &Source, sources: &[Source]) -> bool {
    let is_owned = sources.iter().any(|other| other.owns(route));
    source.address.is_ipv6() == route.is_ipv6 && (source.owns(route) || !is_owned)
}

fn everywhere(source: &Source) -> IpNetwork {
    IpNetwork::new(source.family().unspecified(), 0).expect("0 is a prefix length of both families")
}

/// Takes the interface's routes out of main, all or those that have a next hop. The way to link-local addresses
/// stays: packets from such an address have no table of their own. Routes on link go last, as undo needs them first.
fn empty_main(plan: &mut Plan, on_link_stays: bool, dev: &IfName, observed: &Observed) {
    let stays = |route: &RouteState| is_link_local(route) || (on_link_stays && route.gw.is_none());
    let mut going: Vec<&RouteState> = observed.main().filter(|route| !stays(route)).collect();
    going.sort_by_key(|route| route.gw.is_none());
    going.into_iter().for_each(|route| remove(plan, route, dev));
}

fn is_link_local(route: &RouteState) -> bool {
    matches!(route.dst, Some(IpNetwork::V6(dst)) if dst.ip().is_unicast_link_local())
}

fn remove(plan: &mut Plan, route: &RouteState, dev: &IfName) {
    let step = |step: fn(Side, RouteSpec) -> Step| step(Side::Container, route.spec(dev));
    plan.push_with_undo(step(Step::DeleteRoute), step(Step::AddRoute));
}

/// Main's route to each subnet names an address of the container. IPv4 routes of the kernel do so already.
fn hints(plan: &mut Plan, dev: &IfName, sources: &[Source], observed: &Observed) {
    let mut hinted = BTreeSet::new();
    for source in sources.iter().filter(|source| source.subnet() != source.host()) {
        let subnet = source.subnet();
        let is_way = |route: &&RouteState| route.gw.is_none() && route.dst == Some(subnet);
        let there: Vec<&RouteState> = observed.main().filter(is_way).collect();
        if there.iter().any(|route| route.source.is_some()) || !hinted.insert(subnet) {
            continue;
        }
        let priority = there.iter().find_map(|route| route.priority);
        there.into_iter().for_each(|route| remove(plan, route, dev));
        let hint = Some(source.address.ip());
        let spec = RouteSpec { source: hint, priority, ..RouteSpec::new(subnet, dev.clone()) };
        plan.push(Step::AddRoute(Side::Container, spec));
    }
}

/// The result tells the next hops that the configuration names, as CHECK of the plugins before will look for them.
pub(super) fn mended(mut result: CniResult, config: &Config) -> CniResult {
    for route in result.routes.iter_mut().filter(|route| route.dst.prefix() == 0) {
        route.gw = config.gateway(Family::of(route.dst.ip())).or(route.gw);
    }
    result
}

/// What CHECK misses: the first thing that is not as ADD left it.
pub(super) fn missing(
    config: &Config,
    dev: &IfName,
    sources: &[Source],
    observed: &Observed,
) -> Option<String> {
    sources.iter().find_map(|source| missing_of(config, dev, source, observed))
}

fn missing_of(config: &Config, dev: &IfName, source: &Source, observed: &Observed) -> Option<String> {
    let from = source.host();
    let mut rules = observed.rules.iter().filter(|rule| rule.is_plain && rule.from == Some(from));
    let asked = |rule: &&RuleState| match config {
        Config::Asked { table } => rule.table == *table,
        Config::Own { .. } => rule.table != MAIN,
    };
    let Some(rule) = rules.find(asked) else {
        return Some(format!("there is no routing rule for packets from {}", from.ip()));
    };
    if let Config::Asked { .. } = config {
        return None;
    }
    let of_table = |route: &&RouteState| route.table == rule.table && route.is_ipv6 == from.is_ipv6();
    let routes: Vec<&RouteState> = observed.routes.iter().filter(of_table).collect();
    let named = config.gateway(source.family());
    let is_default =
        |route: &&&RouteState| route.dst.is_none() && named.is_none_or(|gw| route.gw == Some(gw));
    let wants_default = named.or(source.gateway).is_some();
    if wants_default && !routes.iter().any(|route| is_default(&route)) {
        return Some(format!("table {} has no default route by {dev}", rule.table));
    }
    (routes.is_empty() && source.subnet() != from)
        .then(|| format!("table {} has no route by {dev}", rule.table))
}

/// The steps of a DEL: the rules, and with `own_tables` what their tables have by the interface.
pub(super) fn withdrawn(rules: &[RuleSpec], own_tables: bool, dev: &IfName, routes: &[RouteState]) -> Plan {
    let is_ours = |table: u32| own_tables && rules.iter().any(|rule| rule.table == table);
    let routes = routes.iter().filter(|route| route.is_unicast && is_ours(route.table));
    let rules = rules.iter().map(|rule| Step::DeleteRule(Side::Container, *rule));
    rules.chain(routes.map(|route| Step::DeleteRoute(Side::Container, route.spec(dev)))).collect()
}

/// The rules that the reference would delete, where no record says which: those that ask for an address of the
/// interface, in the asked table if there is one.
pub(super) fn adopted(config: &Config, addresses: &[IpNetwork], rules: &[RuleState]) -> Vec<RuleSpec> {
    let hosts: Vec<IpNetwork> = addresses.iter().map(|address| IpNetwork::from(address.ip())).collect();
    let is_asked = |table: u32| match config {
        Config::Asked { table: asked } => table == *asked,
        // Main, and tables that the reference never takes, are somebody else's.
        Config::Own { .. } => table >= FIRST_TABLE && table != MAIN,
    };
    let spec = |rule: &RuleState| {
        let from = rule.from.filter(|from| hosts.contains(from))?;
        (rule.is_plain && rule.is_unclaimed && is_asked(rule.table))
            .then_some(RuleSpec { from, table: rule.table })
    };
    rules.iter().filter_map(spec).collect()
}
