//! Flows of datagrams whose translation no longer holds are forgotten: their clients' next packet begins anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use zeugma_model::Protocol;
use zeugma_plan::Family;
use zeugma_plan::nft::services::{Backend, Forget, Frontend};

use super::super::attributes::attribute;
use super::super::writer::Writer;
use super::{HEADERS, Programmer, io, message, receive};
use crate::Error;
use crate::channel::Answer;

/// `NFNL_SUBSYS_CTNETLINK` with `IPCTNL_MSG_CT_GET` and `…_DELETE`.
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// `enum ctattr_type`.
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const FILTER: u16 = 25;
/// `enum ctattr_filter`, and the flag of the protocol's number.
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;
const COUNT_PROTOCOL: u32 = 1 << 3;
/// `enum ctattr_tuple`, `enum ctattr_l4proto`.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;

/// A tracked flow.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flow {
    /// What it was sent to.
    frontend: Frontend,
    /// Who answers.
    backend: Backend,
    /// The original tuple's bytes, and the entry's number: together they mean this very entry.
    original: Vec<u8>,
    id: Vec<u8>,
}

impl Programmer {
    /// Lists the flows of the protocols in question once, however many frontends there are.
    pub(super) fn forget(&mut self, forget: &[Forget]) -> Result<(), Error> {
        let mut by_kind: BTreeMap<(Family, Protocol), HashMap<Frontend, BTreeSet<Backend>>> = BTreeMap::new();
        for one in forget {
            let kind = by_kind.entry((one.frontend.family(), one.frontend.protocol)).or_default();
            kind.insert(one.frontend, one.keep.iter().copied().collect());
        }
        for ((family, protocol), frontends) in by_kind {
            let mut gone = Vec::new();
            for flow in self.flows(family, protocol)? {
                if self.is_to_be_forgotten(&flow, &frontends)? {
                    gone.push(flow);
                }
            }
            self.delete_flows(family, &gone)?;
        }
        Ok(())
    }

    /// A port of the host is one on its own addresses alone.
    fn is_to_be_forgotten(
        &mut self,
        flow: &Flow,
        frontends: &HashMap<Frontend, BTreeSet<Backend>>,
    ) -> Result<bool, Error> {
        if let Some(keep) = frontends.get(&flow.frontend) {
            return Ok(!keep.contains(&flow.backend));
        }
        let any = Frontend { address: flow.frontend.family().unspecified(), ..flow.frontend };
        match frontends.get(&any) {
            Some(keep) if !keep.contains(&flow.backend) => self.route.is_local(flow.frontend.address),
            _ => Ok(false),
        }
    }

    fn flows(&mut self, family: Family, protocol: Protocol) -> Result<Vec<Flow>, Error> {
        let sequence = self.channel.append(GET, NLM_F_DUMP, |bytes| {
            let mut body = header(bytes, family);
            body.nest(TUPLE_ORIGINAL, |tuple| {
                tuple.nest(TUPLE_PROTOCOL, |proto| proto.bytes(PROTOCOL_NUMBER, &[protocol.number()]));
            });
            body.nest(FILTER, |filter| {
                filter.bytes(FILTER_ORIGINAL, &COUNT_PROTOCOL.to_ne_bytes());
                filter.bytes(FILTER_REPLY, &0_u32.to_ne_bytes());
            });
        });
        self.channel.flush().map_err(io)?;
        let (mut flows, mut refused) = (Vec::new(), None);
        receive(&mut self.channel, sequence, |answer| match answer {
            Answer::Message(bytes) => {
                flows.extend(bytes.get(HEADERS..).and_then(|body| flow(body, protocol)));
                false
            }
            Answer::Ack(result) => {
                refused = result.err();
                true
            }
            Answer::Done => true,
        })?;
        match refused {
            Some(refusal) if refusal.errno != libc::ENOENT => {
                Err(Error::Unanswered { action: "list conntrack entries", refusal })
            }
            _ => Ok(flows),
        }
    }

    /// One that ended meanwhile is fine.
    fn delete_flows(&mut self, family: Family, flows: &[Flow]) -> Result<(), Error> {
        for flow in flows {
            let sequence = self.channel.append(DELETE, message::ACK, |bytes| {
                let mut body = header(bytes, family);
                body.nest(TUPLE_ORIGINAL, |tuple| tuple.raw(&flow.original));
                body.bytes(ID, &flow.id);
            });
            self.channel.flush().map_err(io)?;
            let mut refused = None;
            receive(&mut self.channel, sequence, |answer| {
                if let Answer::Ack(result) = answer {
                    refused = result.err();
                }
                true
            })?;
            if let Some(refusal) = refused.filter(|refusal| refusal.errno != libc::ENOENT) {
                return Err(Error::Unanswered { action: "delete conntrack entries", refusal });
            }
        }
        Ok(())
    }
}

fn header(bytes: &mut Vec<u8>, family: Family) -> Writer<'_> {
    let number = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    bytes.extend([number as u8, 0, 0, 0]);
    Writer::new(bytes)
}

fn flow(body: &[u8], protocol: Protocol) -> Option<Flow> {
    let (original, reply) = (attribute(body, TUPLE_ORIGINAL)?, attribute(body, TUPLE_REPLY)?);
    Some(Flow {
        frontend: Frontend {
            address: address(original, 1)?,
            protocol,
            port: port(original, DESTINATION_PORT)?,
        },
        backend: Backend { address: address(reply, 0)?, port: port(reply, SOURCE_PORT)? },
        original: original.to_vec(),
        id: attribute(body, ID)?.to_vec(),
    })
}

/// `CTA_IP_V4_SRC`, `…_DST`, `CTA_IP_V6_SRC`, `…_DST` are 1 to 4; `offset` is 1 for destinations.
fn address(tuple: &[u8], offset: u16) -> Option<IpAddr> {
    let ip = attribute(tuple, TUPLE_IP)?;
    let v4 = attribute(ip, 1 + offset).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(IpAddr::from);
    v4.or_else(|| {
        attribute(ip, 3 + offset).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(IpAddr::from)
    })
}

fn port(tuple: &[u8], kind: u16) -> Option<u16> {
    let bytes = attribute(attribute(tuple, TUPLE_PROTOCOL)?, kind)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// Everything that is read out of an answer.
pub(super) fn fuzz(message: &[u8]) {
    if let Some(body) = message.get(HEADERS..) {
        drop(flow(body, Protocol::Udp));
    }
}
