//! Routes by which the host's own programs can send to virtual addresses: without any, `connect` fails before the
//! packet meets the rules that translate it. With the translation the kernel looks for the way anew, so it does not
//! matter where such a route leads. These lead to `lo`: every host has it, and it never is down.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteProtocol;
use zeugma_model::IfName;
use zeugma_plan::RouteSpec;

use super::encode::{doomed, route_message};
use super::{Outcome, Request, Route};
use crate::{Error, Refusal};

/// Who made them. A number of its own: those of [`super::encode::OUR_PROTOCOL`] belong to attachments.
const HELD_PROTOCOL: RouteProtocol = RouteProtocol::Other(123);
/// `ifindex` of `lo`, in every namespace (`LOOPBACK_IFINDEX`).
const LO: u32 = 1;
/// Somebody else's route to the same range goes first.
const METRIC: u32 = 1024;

impl Route {
    /// Makes our routes by way of `lo` those to `ranges`.
    pub(crate) fn hold(&mut self, ranges: &[IpNetwork]) -> Result<(), Error> {
        let wanted: BTreeSet<IpNetwork> = ranges.iter().map(|range| subnet(*range)).collect();
        let there: BTreeSet<IpNetwork> = self
            .routes_by(HELD_PROTOCOL)?
            .into_iter()
            .filter(|(index, _)| *index == LO)
            .map(|(_, state)| subnet(state.destination()))
            .collect();
        let lo: IfName = "lo".parse().expect("lo is a name");
        let mut changes = Vec::new();
        for range in there.difference(&wanted) {
            changes.push((*range, deleted(&spec(*range, &lo))));
        }
        for range in wanted.difference(&there) {
            changes.push((*range, added(&spec(*range, &lo))));
        }
        let batch = changes.iter().enumerate();
        let batch = batch.map(|(at, (_, (message, flags)))| (at, message.clone(), *flags)).collect();
        let Outcome { failed, .. } = self.transact(batch)?;
        let failed = failed.into_iter().find(|(at, refusal)| !is_fine(changes[*at].0, refusal));
        failed.map_or(Ok(()), |(at, refusal)| {
            Err(Error::Refused { step: format!("ip route replace {} dev lo", changes[at].0), refusal })
        })
    }
}

/// Somebody was faster, or the host has no IPv6: `disable_ipv6` of `lo` is `EACCES`.
fn is_fine(range: IpNetwork, refusal: &Refusal) -> bool {
    match refusal.errno {
        libc::EEXIST | libc::ESRCH => true,
        libc::EACCES | libc::EAFNOSUPPORT | libc::EOPNOTSUPP => range.is_ipv6(),
        _ => false,
    }
}

fn subnet(range: IpNetwork) -> IpNetwork {
    IpNetwork::new(range.network(), range.prefix()).expect("its own prefix length")
}

fn spec(range: IpNetwork, lo: &IfName) -> RouteSpec {
    let protocol = Some(HELD_PROTOCOL.into());
    RouteSpec { protocol, priority: Some(METRIC), ..RouteSpec::new(range, lo.clone()) }
}

fn added(spec: &RouteSpec) -> Request {
    (RouteNetlinkMessage::NewRoute(route_message(LO, spec)), NLM_F_CREATE | NLM_F_APPEND)
}

fn deleted(spec: &RouteSpec) -> Request {
    (RouteNetlinkMessage::DelRoute(doomed(route_message(LO, spec), spec)), 0)
}
