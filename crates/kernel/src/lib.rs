//! The only door to the kernel: rtnetlink, nfnetlink, namespaces, sysctls, sysfs.
//!
//! It applies plans and answers questions; it decides nothing. One encoder on blocking sockets, for
//! executables that live a millisecond.

mod activation;
mod apply;
mod channel;
mod clock;
mod datagrams;
mod disk;
mod error;
mod fuzz;
mod local;
mod netfilter;
mod netns;
#[cfg(feature = "overlay")]
pub mod overlay;
mod packet;
mod pair;
mod ping;
mod ports;
mod process;
mod route;
mod routers;
mod sys;
mod sysctl;
mod sysfs;
mod tap;
mod tun;
mod tunnel;
mod waiting;
mod watch;

pub use activation::{activated, handed_over};
pub use clock::{is_synchronised, since_boot, thread_time};
pub use datagrams::{BATCH, Datagram, Exchange, Served, receive_buffer};
pub use disk::{Disk, disk};
pub use error::{Error, Refusal};
pub use fuzz::{fuzz_netfilter, fuzz_route};
#[cfg(feature = "overlay")]
pub use fuzz::{fuzz_overlay, fuzz_wireguard};
pub use local::{connect_local, link_index, listener_of};
pub use netfilter::foreign::{BaseChain, ForeignChain, NftFamily};
pub use netfilter::services::Programmer;
pub use netfilter::table::TableState;
pub use netfilter::tracing::{TRACE_TABLE, TraceEvent, Traced, Tracer};
pub use netns::{Netns, NetnsId};
pub use packet::PacketSocket;
pub use pair::{SocketPair, pair, pair_inside};
pub use ping::Pinger;
pub use ports::{Listener, listener};
pub use process::{Process, give_back_memory, leave_session, raise_open_files, share_memory, start_of};
pub use route::{BridgeVlans, Leaving, LinkState, RouteState, RuleState, Way};
pub use sysfs::{Bus, Sysfs};
pub use tap::{MAKE_TAP, can_make_taps, make_tap};
pub use tun::Tun;
pub use tunnel::{Arrivals, Arrived, Run, TunnelSocket};
pub use waiting::{Ending, ready};
pub use watch::{Changes, Waker, Watch};

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use ipnetwork::IpNetwork;
use zeugma_model::{IfName, Protocol};
use zeugma_plan::nft::{Element, NAMES_TABLE, SetId, TableFamily, names_table};
use zeugma_plan::{AddressFlags, Family, LimitState, Plan, PortVlanState, Side};

use netfilter::Netfilter;
use route::Route;

/// The kernel, seen from the host's namespace and, when there is one, the container's.
///
/// Sockets are opened when first needed. Not for use from several threads at once.
#[derive(Default)]
pub struct Kernel {
    container: Option<Netns>,
    host_route: Option<Route>,
    container_route: Option<Route>,
    netfilter: Option<Netfilter>,
    container_netfilter: Option<Netfilter>,
    is_resident: bool,
}

impl Kernel {
    /// The host's namespace alone: the one that the calling thread is in.
    pub fn host() -> Self {
        Self::default()
    }

    /// The same for a process that lives on: where closing a socket takes the kernel a while, it waits, and leaves no
    /// child behind to do so.
    pub fn resident() -> Self {
        Self { is_resident: true, ..Self::default() }
    }

    /// Host and container.
    ///
    /// # Errors
    /// [`Error::NoNetns`] when nothing is at `path`, [`Error::NotNetns`] when something else is.
    pub fn with_container(path: &Path) -> Result<Self, Error> {
        Ok(Self { container: Some(Netns::open(path)?), ..Self::default() })
    }

    /// The container's namespace, if there is one.
    pub fn container_id(&self) -> Option<NetnsId> {
        self.container.as_ref().map(Netns::id)
    }

    /// The cookie of the container's namespace, which no other one gets in this boot; none when the kernel has none.
    pub fn container_cookie(&mut self) -> Result<Option<u64>, Error> {
        Ok(self.route(Side::Container)?.cookie())
    }

    /// Applies a plan. When a step fails, those before it are undone in reverse and the host is as before.
    ///
    /// # Errors
    /// The first step's that failed.
    pub fn apply(&mut self, plan: &Plan) -> Result<(), Error> {
        apply::apply(self, plan)
    }

    /// Applies a plan to the end whatever fails: DEL and GC.
    ///
    /// Returns all errors, in order.
    pub fn apply_all(&mut self, plan: &Plan) -> Vec<Error> {
        apply::apply_all(self, plan)
    }

    /// What the kernel knows of a link; none when there is no such link.
    pub fn link(&mut self, side: Side, name: &IfName) -> Result<Option<LinkState>, Error> {
        self.route(side)?.link(name)
    }

    /// The addresses of a link, with prefix lengths.
    pub fn addresses(&mut self, side: Side, name: &IfName) -> Result<Vec<IpNetwork>, Error> {
        self.route(side)?.addresses(name)
    }

    /// All links, by index.
    pub fn links(&mut self, side: Side) -> Result<Vec<(IfName, LinkState)>, Error> {
        self.route(side)?.links()
    }

    /// Whether the kernel has VRFs (`CONFIG_NET_VRF`); its module is loaded if need be, and nothing is made.
    pub fn knows_vrfs(&mut self, side: Side) -> Result<bool, Error> {
        self.route(side)?.knows_vrfs()
    }

    /// The addresses of a link that stay until somebody takes them away, and how each was added: no link-local ones,
    /// none that expire.
    pub fn lasting_addresses(
        &mut self,
        side: Side,
        name: &IfName,
    ) -> Result<Vec<(IpNetwork, AddressFlags)>, Error> {
        self.route(side)?.lasting_addresses(name)
    }

    /// The routes by way of a link, in all tables.
    pub fn routes(&mut self, side: Side, name: &IfName) -> Result<Vec<RouteState>, Error> {
        self.route(side)?.routes(name)
    }

    /// The routing rules, in the order in which they are asked.
    pub fn rules(&mut self, side: Side) -> Result<Vec<RuleState>, Error> {
        self.route(side)?.rules()
    }

    /// The routing tables that have routes.
    pub fn tables(&mut self, side: Side) -> Result<BTreeSet<u32>, Error> {
        self.route(side)?.tables()
    }

    /// The names of the links whose master is `bridge`; none when there is no such bridge.
    pub fn ports_of(&mut self, bridge: &IfName) -> Result<Vec<IfName>, Error> {
        self.route(Side::Host)?.ports_of(bridge)
    }

    /// The VLANs of a bridge port on the host; none when it is no port.
    pub fn port_vlans(&mut self, port: &IfName) -> Result<Vec<PortVlanState>, Error> {
        self.route(Side::Host)?.port_vlans(port)
    }

    /// The names of the host's links that bear this mark.
    pub fn marked_links(&mut self, alias: &str) -> Result<Vec<IfName>, Error> {
        let links = self.links(Side::Host)?.into_iter();
        Ok(links.filter(|(_, state)| state.alias.as_deref() == Some(alias)).map(|(name, _)| name).collect())
    }

    /// The MTU of the link that the default route leaves by; none without a default route.
    pub fn underlay_mtu(&mut self) -> Result<Option<u32>, Error> {
        self.route(Side::Host)?.underlay_mtu()
    }

    /// The limit at the root of a link of the host; none when there is none of ours.
    pub fn limit(&mut self, name: &IfName) -> Result<Option<LimitState>, Error> {
        self.route(Side::Host)?.limit(name)
    }

    /// The index of the link of the host that what comes in by `name` is redirected to.
    pub fn redirected_to(&mut self, name: &IfName) -> Result<Option<u32>, Error> {
        self.route(Side::Host)?.redirected_to(name)
    }

    /// Whether the kernel has token buckets and ifbs, and lets us use them. Makes nothing.
    ///
    /// # Errors
    /// Its refusal.
    pub fn can_shape(&mut self) -> Result<(), Error> {
        self.route(Side::Host)?.can_shape()
    }

    /// The link that a side's default route leaves by; none without a default route.
    pub fn default_link(&mut self, side: Side) -> Result<Option<(IfName, LinkState)>, Error> {
        self.route(side)?.default_link()
    }

    /// Who owns an element: its comment. None when there is no such element (or table).
    pub fn element_owner(&mut self, element: &Element) -> Result<Option<String>, Error> {
        self.netfilter()?.owner(element)
    }

    /// All elements of a set, whosever.
    pub fn members(&mut self, set: SetId) -> Result<Vec<Element>, Error> {
        self.netfilter()?.members(set)
    }

    /// Our table of a family, compared with what this version makes; none when there is none.
    pub fn table(&mut self, family: TableFamily) -> Result<Option<TableState>, Error> {
        self.netfilter()?.table(family)
    }

    /// The number of the ruleset's generation: every transaction of the namespace makes another.
    pub fn generation(&mut self) -> Result<Option<u32>, Error> {
        self.netfilter()?.generation()
    }

    /// The addresses of all links of the host, by the links' indexes.
    pub fn all_addresses(&mut self) -> Result<Vec<(u32, IpNetwork)>, Error> {
        self.route(Side::Host)?.all_addresses()
    }

    /// How many neighbours of a family somebody put on the host for good: the kernel does not count them when it looks
    /// whether its table of neighbours is full.
    pub fn lasting_neighbours(&mut self, family: Family) -> Result<usize, Error> {
        self.route(Side::Host)?.lasting_neighbours(family)
    }

    /// Where the unicast routes of the host's main table lead.
    pub fn destinations(&mut self) -> Result<Vec<IpNetwork>, Error> {
        self.route(Side::Host)?.destinations()
    }

    /// The routes on the host that bear our mark, by the indexes of the links that they leave by.
    pub fn our_routes(&mut self) -> Result<Vec<(u32, RouteState)>, Error> {
        self.route(Side::Host)?.our_routes()
    }

    /// Makes it so that the host's own programs can send to these ranges of virtual addresses, whatever routes there
    /// are: routes by way of `lo`, marked with a protocol of their own (123). Those to ranges that are no longer named
    /// go; others' routes are never touched, and go first.
    ///
    /// # Errors
    /// [`Error::Unanswered`], [`Error::Refused`]. A host without IPv6 is none.
    pub fn hold_vip_routes(&mut self, ranges: &[IpNetwork]) -> Result<(), Error> {
        self.route(Side::Host)?.hold(ranges)
    }

    /// The VLANs of all bridge ports of the host, by the ports' indexes.
    pub fn all_port_vlans(&mut self) -> Result<Vec<(u32, PortVlanState)>, Error> {
        self.route(Side::Host)?.all_port_vlans()
    }

    /// Whether the kernel has nftables and lets us use it.
    ///
    /// # Errors
    /// Its refusal.
    pub fn can_filter(&mut self) -> Result<(), Error> {
        self.netfilter()?.elements(SetId::Isolated).map(drop)
    }

    /// The chains of all tables of a family, whoever made them.
    pub fn chains(&mut self, family: NftFamily) -> Result<Vec<ForeignChain>, Error> {
        self.netfilter()?.chains(family)
    }

    /// The chains of a family that hang at a hook, whoever made them, in the order in which packets meet them.
    pub fn base_chains(&mut self, family: NftFamily) -> Result<Vec<BaseChain>, Error> {
        self.netfilter()?.base_chains(family)
    }

    /// The handles of a chain's rules, in their order; none when there is no such chain.
    pub fn rule_handles(&mut self, family: NftFamily, table: &str, chain: &str) -> Result<Vec<u64>, Error> {
        self.netfilter()?.rule_handles(family, table, chain)
    }

    /// Whether the kernel has VXLAN; its module is loaded if need be, and nothing is made.
    pub fn knows_vxlan(&mut self) -> Result<bool, Error> {
        self.route(Side::Host)?.knows_vxlan()
    }

    /// The way that a packet takes from a side, as the kernel would choose it.
    pub fn way(&mut self, side: Side, leaving: &Leaving) -> Result<Way, Error> {
        self.route(side)?.way(leaving)
    }

    /// Runs `action` in the container's namespace, on this thread.
    ///
    /// # Errors
    /// [`Error::NoContainer`], and when the namespace cannot be entered or left.
    pub fn in_container<T>(&self, action: impl FnOnce() -> T) -> Result<T, Error> {
        self.inside(Side::Container, action)
    }

    /// Whether somebody has rules in this chain; false when there is none such.
    pub fn has_rules(&mut self, family: NftFamily, table: &str, chain: &str) -> Result<bool, Error> {
        self.netfilter()?.has_rules(family, table, chain)
    }

    /// Whether questions to 127.0.0.11 in the container are led elsewhere, by [`zeugma_plan::nft::names_table`].
    pub fn redirects_dns(&mut self) -> Result<bool, Error> {
        let chain = names_table(0).chains.first().map_or("", |chain| chain.name);
        self.container_netfilter()?.has_rules(NftFamily::Inet, NAMES_TABLE, chain)
    }

    /// Whether nobody in the container has a port of one of its addresses.
    pub fn is_free_inside(&self, protocol: Protocol, address: SocketAddr) -> Result<bool, Error> {
        self.inside(Side::Container, || listener(protocol, address).is_none())
    }

    /// The names of the tables that iptables-legacy made in this namespace.
    pub fn legacy_tables(&self, family: Family) -> Vec<String> {
        netfilter::foreign::legacy_tables(family)
    }

    /// Reads a sysctl below `/proc/sys`, as seen from that side; none when the kernel has none such.
    pub fn sysctl(&self, side: Side, path: &str) -> Result<Option<String>, Error> {
        self.inside(side, || sysctl::read(path))?
    }

    fn inside<T>(&self, side: Side, action: impl FnOnce() -> T) -> Result<T, Error> {
        match side {
            Side::Host => Ok(action()),
            Side::Container => self.container.as_ref().ok_or(Error::NoContainer)?.inside(action),
        }
    }

    fn route(&mut self, side: Side) -> Result<&mut Route, Error> {
        let slot = match side {
            Side::Host => &mut self.host_route,
            Side::Container => &mut self.container_route,
        };
        if let Some(route) = slot {
            return Ok(route);
        }
        let opened = match side {
            Side::Host => Route::open()?,
            Side::Container => self.container.as_ref().ok_or(Error::NoContainer)?.inside(Route::open)??,
        };
        Ok(slot.insert(opened))
    }

    fn netfilter(&mut self) -> Result<&mut Netfilter, Error> {
        match &mut self.netfilter {
            Some(netfilter) => Ok(netfilter),
            slot @ None => Ok(slot.insert(Netfilter::open(self.is_resident)?)),
        }
    }

    fn container_netfilter(&mut self) -> Result<&mut Netfilter, Error> {
        let is_patient = self.is_resident;
        if self.container_netfilter.is_none() {
            let opened = self
                .container
                .as_ref()
                .ok_or(Error::NoContainer)?
                .inside(|| Netfilter::open(is_patient))??;
            self.container_netfilter = Some(opened);
        }
        self.container_netfilter.as_mut().ok_or(Error::NoContainer)
    }
}
