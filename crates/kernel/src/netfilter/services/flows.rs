//! Flows of datagrams whose translation no longer holds are forgotten: their clients' next packet begins anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use zeugma_model::Protocol;
use zeugma_plan::Family;
use zeugma_plan::nft::services::{Backend, Forget, Frontend};

use super::super::attributes::attribute;
use super::super::conntrack::{self, Direction};
use super::super::writer::Writer;
use super::{HEADERS, Programmer};
use crate::Error;

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
        let mut flows = Vec::new();
        let of_protocol = |body: &mut Writer<'_>| {
            body.nest(conntrack::CTA_TUPLE_ORIG, |tuple| {
                tuple.nest(conntrack::TUPLE_PROTO, |proto| {
                    proto.bytes(conntrack::PROTO_NUM, &[protocol.number()]);
                });
            });
            body.nest(conntrack::CTA_FILTER, |filter| {
                filter.bytes(conntrack::FILTER_ORIG_FLAGS, &conntrack::COUNT_PROTO_NUM.to_ne_bytes());
                filter.bytes(conntrack::FILTER_REPLY_FLAGS, &0_u32.to_ne_bytes());
            });
        };
        let take = |entry: &[u8]| flows.extend(flow(entry, protocol));
        conntrack::list(&mut self.channel, family, of_protocol, take)?;
        Ok(flows)
    }

    /// One that ended meanwhile is fine.
    fn delete_flows(&mut self, family: Family, flows: &[Flow]) -> Result<(), Error> {
        flows.iter().try_for_each(|flow| {
            conntrack::delete(&mut self.channel, family, |body| {
                body.nest(conntrack::CTA_TUPLE_ORIG, |tuple| tuple.raw(&flow.original));
                body.bytes(conntrack::CTA_ID, &flow.id);
            })
        })
    }
}

fn flow(body: &[u8], protocol: Protocol) -> Option<Flow> {
    let (original, reply) =
        (attribute(body, conntrack::CTA_TUPLE_ORIG)?, attribute(body, conntrack::CTA_TUPLE_REPLY)?);
    Some(Flow {
        frontend: Frontend {
            address: conntrack::address(original, Direction::Destination)?,
            protocol,
            port: port(original, conntrack::PROTO_DST_PORT)?,
        },
        backend: Backend {
            address: conntrack::address(reply, Direction::Source)?,
            port: port(reply, conntrack::PROTO_SRC_PORT)?,
        },
        original: original.to_vec(),
        id: attribute(body, conntrack::CTA_ID)?.to_vec(),
    })
}

fn port(tuple: &[u8], kind: u16) -> Option<u16> {
    let bytes = attribute(attribute(tuple, conntrack::TUPLE_PROTO)?, kind)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// Everything that is read out of an answer.
pub(super) fn fuzz(message: &[u8]) {
    if let Some(body) = message.get(HEADERS..) {
        drop(flow(body, Protocol::Udp));
    }
}
