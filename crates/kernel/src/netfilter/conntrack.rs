//! Forgetting tracked flows, precisely; and the messages about them, also for those to services (services/flows.rs).

use std::collections::HashMap;
use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, Emitable, NLM_F_ACK, NLM_F_DUMP};
use zeugma_plan::{Family, FlowFilter};

use super::attributes::attribute;
use super::uapi::NESTED;
use super::writer::Writer;
use super::{HEADERS, Netfilter, protocol};
use crate::channel::Channel;
use crate::route::Route;
use crate::{Error, Refusal};

/// `IPCTNL_MSG_CT_GET` and `…_DELETE` behind `NFNL_SUBSYS_CTNETLINK`.
const CT_GET: u16 = 1 << 8 | 1;
const CT_DELETE: u16 = 1 << 8 | 2;
/// `enum ctattr_type`.
pub(super) const CTA_TUPLE_ORIG: u16 = 1;
pub(super) const CTA_TUPLE_REPLY: u16 = 2;
pub(super) const CTA_ID: u16 = 12;
pub(super) const CTA_FILTER: u16 = 25;
/// `enum ctattr_filter`: which parts of a tuple count.
pub(super) const FILTER_ORIG_FLAGS: u16 = 1;
pub(super) const FILTER_REPLY_FLAGS: u16 = 2;
const COUNT_IP_SRC: u32 = 1 << 0;
const COUNT_IP_DST: u32 = 1 << 1;
pub(super) const COUNT_PROTO_NUM: u32 = 1 << 3;
const COUNT_SRC_PORT: u32 = 1 << 4;
const COUNT_DST_PORT: u32 = 1 << 5;
/// `enum ctattr_tuple`, `ctattr_ip`, `ctattr_l4proto`.
const TUPLE_IP: u16 = 1;
pub(super) const TUPLE_PROTO: u16 = 2;
pub(super) const PROTO_NUM: u16 = 1;
pub(super) const PROTO_SRC_PORT: u16 = 2;
pub(super) const PROTO_DST_PORT: u16 = 3;

impl Netfilter {
    /// Deletes the flows that match. That there are none is fine.
    pub(crate) fn forget_flows(&mut self, route: &mut Route, filter: &FlowFilter) -> Result<(), Error> {
        match filter {
            FlowFilter::Answered { protocol, port, address } => {
                let tuple =
                    [ip(*address, Direction::Source), proto(protocol.number(), PROTO_SRC_PORT, *port)];
                self.forget_answered(*address, &tuple, COUNT_IP_SRC | COUNT_PROTO_NUM | COUNT_SRC_PORT)
            }
            FlowFilter::AnsweredBy { address } => {
                self.forget_answered(*address, &[ip(*address, Direction::Source)], COUNT_IP_SRC)
            }
            FlowFilter::Untranslated { protocol, port, address } => {
                self.forget_untranslated(route, protocol.number(), *port, *address)
            }
        }
    }

    fn forget_answered(&mut self, address: IpAddr, reply: &[DefaultNla], counted: u32) -> Result<(), Error> {
        let attributes = vec![
            nested(CTA_TUPLE_REPLY, reply),
            nested(CTA_FILTER, &[flags(FILTER_ORIG_FLAGS, 0), flags(FILTER_REPLY_FLAGS, counted)]),
        ];
        self.delete_flows(Family::of(address), attributes)
    }

    /// The kernel cannot ask "was it translated" or "is the destination mine", so we look at each.
    fn forget_untranslated(
        &mut self,
        route: &mut Route,
        protocol: u8,
        port: u16,
        address: IpAddr,
    ) -> Result<(), Error> {
        let mut tuple = vec![proto(protocol, PROTO_DST_PORT, port)];
        let mut counted = COUNT_PROTO_NUM | COUNT_DST_PORT;
        if !address.is_unspecified() {
            tuple.push(ip(address, Direction::Destination));
            counted |= COUNT_IP_DST;
        }
        let family = Family::of(address);
        let attributes = vec![
            nested(CTA_TUPLE_ORIG, &tuple),
            nested(CTA_FILTER, &[flags(FILTER_ORIG_FLAGS, counted), flags(FILTER_REPLY_FLAGS, 0)]),
        ];
        for flow in self.flows(family, attributes)? {
            if flow.is_untranslated() && route.is_local(flow.destination)? {
                self.delete_flows(family, vec![DefaultNla::new(CTA_TUPLE_ORIG | NESTED, flow.original)])?;
            }
        }
        Ok(())
    }

    /// The same for many ports in one walk.
    pub(crate) fn forget_all_untranslated(
        &mut self,
        route: &mut Route,
        filters: &[&FlowFilter],
    ) -> Result<(), Error> {
        let wanted: HashMap<(u8, u16), Vec<IpAddr>> = by_port(filters);
        for family in Family::ALL {
            if !wanted.values().flatten().any(|address| Family::of(*address) == family) {
                continue;
            }
            for flow in self.flows(family, Vec::new())? {
                let is_wanted =
                    |address: &IpAddr| *address == flow.destination || *address == family.unspecified();
                let wants =
                    flow.port.and_then(|port| wanted.get(&port)).is_some_and(|all| all.iter().any(is_wanted));
                if wants && flow.is_untranslated() && route.is_local(flow.destination)? {
                    self.delete_flows(family, vec![DefaultNla::new(CTA_TUPLE_ORIG | NESTED, flow.original)])?;
                }
            }
        }
        Ok(())
    }

    fn delete_flows(&mut self, family: Family, attributes: Vec<DefaultNla>) -> Result<(), Error> {
        delete(&mut self.channel, family, |body| body.raw(&emitted(&attributes)))
    }

    fn flows(&mut self, family: Family, attributes: Vec<DefaultNla>) -> Result<Vec<Flow>, Error> {
        let mut flows = Vec::new();
        let write = |body: &mut Writer<'_>| body.raw(&emitted(&attributes));
        list(&mut self.channel, family, write, |entry| flows.extend(flow(entry)))?;
        Ok(flows)
    }
}

/// Shows the attributes of each tracked flow of a family that fits the filter that `write` makes.
pub(super) fn list(
    channel: &mut Channel,
    family: Family,
    write: impl FnOnce(&mut Writer<'_>),
    mut visit: impl FnMut(&[u8]),
) -> Result<(), Error> {
    let sequence = push(channel, family, (CT_GET, NLM_F_DUMP), write);
    let bodies = |message: &[u8]| message.get(HEADERS..).into_iter().for_each(&mut visit);
    exchange(channel, sequence, "list conntrack entries", bodies)
}

/// Deletes the flows that what `write` makes stands for. That there are none is fine.
pub(super) fn delete(
    channel: &mut Channel,
    family: Family,
    write: impl FnOnce(&mut Writer<'_>),
) -> Result<(), Error> {
    let sequence = push(channel, family, (CT_DELETE, NLM_F_ACK), write);
    exchange(channel, sequence, "delete conntrack entries", |_| {})
}

fn push(
    channel: &mut Channel,
    family: Family,
    (kind, flags): (u16, u16),
    write: impl FnOnce(&mut Writer<'_>),
) -> u32 {
    channel.append(kind, flags, |bytes| {
        bytes.extend([u8::from(protocol(family)), 0, 0, 0]);
        write(&mut Writer::new(bytes));
    })
}

fn exchange(
    channel: &mut Channel,
    sequence: u32,
    action: &'static str,
    mut visit: impl FnMut(&[u8]),
) -> Result<(), Error> {
    let io = |source| Error::System { action, source };
    let refused = channel.answers(sequence, |bytes| {
        visit(bytes);
        false
    });
    match refused.map_err(io)? {
        Some(refusal) if !is_nothing(&refusal) => Err(Error::Unanswered { action, refusal }),
        _ => Ok(()),
    }
}

/// No such flow.
fn is_nothing(refusal: &Refusal) -> bool {
    refusal.errno == libc::ENOENT
}

/// What of a flow matters here.
struct Flow {
    /// The original tuple's bytes.
    original: Vec<u8>,
    destination: IpAddr,
    /// The protocol and the destination's port.
    port: Option<(u8, u16)>,
    answered_by: IpAddr,
}

impl Flow {
    fn is_untranslated(&self) -> bool {
        self.destination == self.answered_by
    }
}

/// Which end of a tuple.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Source,
    Destination,
}

fn emitted(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | NESTED, emitted(attributes))
}

/// `CTA_IP_V4_SRC`, `…_DST`, `CTA_IP_V6_SRC`, `…_DST`: 1 to 4.
fn ip(address: IpAddr, direction: Direction) -> DefaultNla {
    let (kind, bytes) = match address {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (3, v6.octets().to_vec()),
    };
    let kind = kind + u16::from(direction == Direction::Destination);
    nested(TUPLE_IP, &[DefaultNla::new(kind, bytes)])
}

fn proto(number: u8, port_kind: u16, port: u16) -> DefaultNla {
    let attributes =
        [DefaultNla::new(PROTO_NUM, vec![number]), DefaultNla::new(port_kind, port.to_be_bytes().to_vec())];
    nested(TUPLE_PROTO, &attributes)
}

/// The filter's flags are in the host's byte order.
fn flags(kind: u16, bits: u32) -> DefaultNla {
    DefaultNla::new(kind, bits.to_ne_bytes().to_vec())
}

/// Reads the attributes of one entry.
fn flow(attributes: &[u8]) -> Option<Flow> {
    let original = attribute(attributes, CTA_TUPLE_ORIG)?;
    let reply = attribute(attributes, CTA_TUPLE_REPLY)?;
    Some(Flow {
        destination: address(original, Direction::Destination)?,
        answered_by: address(reply, Direction::Source)?,
        port: port_of(original),
        original: original.to_vec(),
    })
}

fn port_of(tuple: &[u8]) -> Option<(u8, u16)> {
    let proto = attribute(tuple, TUPLE_PROTO)?;
    let number = *attribute(proto, PROTO_NUM)?.first()?;
    let port = attribute(proto, PROTO_DST_PORT)?.try_into().ok()?;
    Some((number, u16::from_be_bytes(port)))
}

/// The addresses that the filters name for each protocol and port.
fn by_port(filters: &[&FlowFilter]) -> HashMap<(u8, u16), Vec<IpAddr>> {
    let mut by_port: HashMap<(u8, u16), Vec<IpAddr>> = HashMap::new();
    for filter in filters {
        if let FlowFilter::Untranslated { protocol, port, address } = filter {
            by_port.entry((protocol.number(), *port)).or_default().push(*address);
        }
    }
    by_port
}

/// The address of one end.
pub(super) fn address(tuple: &[u8], direction: Direction) -> Option<IpAddr> {
    let ip = attribute(tuple, TUPLE_IP)?;
    let offset = u16::from(direction == Direction::Destination);
    let v4 = attribute(ip, 1 + offset).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(IpAddr::from);
    v4.or_else(|| {
        attribute(ip, 3 + offset).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(IpAddr::from)
    })
}

pub(super) fn fuzz(message: &[u8]) {
    if let Some(flow) = message.get(HEADERS..).and_then(flow) {
        let _ = flow.is_untranslated();
    }
}
