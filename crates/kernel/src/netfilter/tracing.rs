//! Which rules packets of one kind meet: the kernel tells of packets that a rule of ours marks (`meta nftrace`).
//!
//! The rule is in a table of its own that belongs to the socket (`NFT_TABLE_F_OWNER`): the kernel takes it away when the
//! socket is closed, however this process ends.

use std::net::IpAddr;
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeugma_model::Protocol;
use zeugma_plan::Family;

use super::attributes::{attribute, attributes};
use super::services::message::{Kind, Transaction};
use super::table::text;
use super::uapi::{ACCEPT, DATA_VALUE, DROP, LIST_ELEMENT, NETWORK, REGISTER, TRANSPORT};
use super::writer::Writer;
use super::{HEADERS, SUBSYSTEM};
use crate::channel::Channel;
use crate::watch::{drain, listening};
use crate::{Error, sys};

/// The table's name.
pub const TRACE_TABLE: &str = "zeugma-trace";
/// `NFNLGRP_NFTRACE`.
const GROUP: u32 = 9;
/// `NFT_MSG_TRACE`.
const TRACE: u8 = 17;
/// `NFT_TABLE_F_OWNER`, since Linux 5.12.
const OWNER: u32 = 2;
/// Before all others, those that leave connection tracking out (`NF_IP_PRI_RAW`, -300) among them.
const FIRST: i32 = -400;
/// The hooks at which a packet begins: its own host's, and whatever comes in.
const BEGINNINGS: [(&str, u32); 2] = [("prerouting", 0), ("output", 3)];
/// `enum nft_meta_keys`.
const META_NFTRACE: u32 = 12;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
/// `enum nft_trace_attributes`.
const OF_TABLE: u16 = 1;
const OF_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const TYPE: u16 = 4;
const VERDICT: u16 = 5;
const ID: u16 = 6;
const IIF: u16 = 10;
const OIF: u16 = 12;
const POLICY: u16 = 16;
/// `enum nft_trace_types`.
const BY_POLICY: u32 = 1;
const BY_RULE: u32 = 3;
/// `enum nft_verdicts`.
const CONTINUE: i32 = -1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

/// Which packets are marked; what is not given is not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traced {
    /// Their family.
    pub family: Family,
    /// Where they come from.
    pub source: Option<IpAddr>,
    /// Where they go, as they come in: before any translation.
    pub destination: Option<IpAddr>,
    /// Their protocol, and the port that they go to.
    pub port: Option<(Protocol, u16)>,
}

/// A packet met a rule that decided something, or the end of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceEvent {
    /// The same for all that one packet meets.
    pub packet: u32,
    /// The family of the table, as nft writes it.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule's handle; none: the chain was at its end.
    pub rule: Option<u64>,
    /// What comes of it, as nft writes it: `accept`, `drop`, `jump published`, …
    pub verdict: String,
    /// The index of the link that the packet came in by.
    pub iif: Option<u32>,
    /// The index of the link that it leaves by.
    pub oif: Option<u32>,
}

/// Listens to what marked packets meet, until it is dropped.
pub struct Tracer {
    events: Socket,
    /// The table is its.
    _owner: Channel,
}

impl Tracer {
    /// Marks packets from here on.
    ///
    /// # Errors
    /// [`Error::Refused`]: another trace has the table (`EEXIST`), or the kernel has no tables with owners.
    pub fn begin(traced: &Traced) -> Result<Self, Error> {
        let io = |source| Error::System { action: "trace packets in nftables", source };
        let events = listening(NETLINK_NETFILTER, &[GROUP]).map_err(io)?;
        let mut owner = Channel::open(NETLINK_NETFILTER).map_err(io)?;
        let mut transaction = Transaction::begin(&mut owner);
        push(&mut transaction, traced);
        transaction.commit().map_err(io)?.map_err(|refusal| Error::Refused {
            step: format!("nft add table inet {TRACE_TABLE} (one trace at a time)"),
            refusal,
        })?;
        Ok(Self { events, _owner: owner })
    }

    /// What was met since the last time; waits for it no longer than `patience`.
    ///
    /// # Errors
    /// When the socket breaks.
    pub fn next(&mut self, patience: Duration) -> Result<Vec<TraceEvent>, Error> {
        let io = |source| Error::System { action: "listen to traces of nftables", source };
        let mut waiting = [PollFd::new(sys::borrow(&self.events), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(io(errno.into())),
        }
        let mut events = Vec::new();
        drain(&self.events, |message| events.extend(event(message))).map_err(io)?;
        Ok(events)
    }
}

fn push(transaction: &mut Transaction<'_>, traced: &Traced) {
    transaction.push(Kind::NewTable, |table| {
        table.text(1, TRACE_TABLE);
        table.number(2, OWNER);
    });
    for (name, hook) in BEGINNINGS {
        transaction.push(Kind::NewChain, |chain| {
            chain.text(1, TRACE_TABLE);
            chain.text(3, name);
            chain.nest(4, |attributes| {
                attributes.number(1, hook);
                attributes.number(2, FIRST.cast_unsigned());
            });
            chain.number(5, ACCEPT);
            chain.text(7, "filter");
        });
        transaction.push(Kind::NewRule, |rule| {
            rule.text(1, TRACE_TABLE);
            rule.text(2, name);
            rule.nest(4, |list| conditions(list, traced));
        });
    }
}

/// The rule: what is asked for, then the mark.
fn conditions(list: &mut Writer<'_>, traced: &Traced) {
    let nfproto = match traced.family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    meta(list, META_NFPROTO);
    compare(list, &[nfproto]);
    let (source, destination) = match traced.family {
        Family::V4 => (12, 16),
        Family::V6 => (8, 24),
    };
    for (address, offset) in [(traced.source, source), (traced.destination, destination)] {
        let Some(address) = address else { continue };
        let bytes = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        payload(list, NETWORK, offset, bytes.len() as u32);
        compare(list, &bytes);
    }
    if let Some((protocol, port)) = traced.port {
        meta(list, META_L4PROTO);
        compare(list, &[protocol.number()]);
        payload(list, TRANSPORT, 2, 2);
        compare(list, &port.to_be_bytes());
    }
    expression(list, "immediate", |data| {
        data.number(1, REGISTER);
        data.nest(2, |data| data.bytes(DATA_VALUE, &[1]));
    });
    expression(list, "meta", |data| {
        data.number(2, META_NFTRACE);
        data.number(3, REGISTER);
    });
}

fn expression(list: &mut Writer<'_>, name: &str, write: impl FnOnce(&mut Writer<'_>)) {
    list.nest(LIST_ELEMENT, |expression| {
        expression.text(1, name);
        expression.nest(2, write);
    });
}

fn meta(list: &mut Writer<'_>, key: u32) {
    expression(list, "meta", |data| {
        data.number(1, REGISTER);
        data.number(2, key);
    });
}

fn payload(list: &mut Writer<'_>, base: u32, offset: u32, length: u32) {
    expression(list, "payload", |data| {
        for (kind, value) in [(1, REGISTER), (2, base), (3, offset), (4, length)] {
            data.number(kind, value);
        }
    });
}

fn compare(list: &mut Writer<'_>, value: &[u8]) {
    expression(list, "cmp", |data| {
        data.number(1, REGISTER);
        data.number(2, 0);
        data.nest(3, |data| data.bytes(DATA_VALUE, value));
    });
}

/// None for another message, and for one that cannot be read.
fn event(message: &[u8]) -> Option<TraceEvent> {
    let [kind, subsystem] = [*message.get(4)?, *message.get(5)?];
    if (kind, u16::from(subsystem)) != (TRACE, SUBSYSTEM) {
        return None;
    }
    let body = message.get(HEADERS..)?;
    let number = |kind| Some(u32::from_be_bytes(attribute(body, kind)?.get(..4)?.try_into().ok()?));
    let handle = attribute(body, RULE_HANDLE).and_then(|bytes| bytes.get(..8)?.try_into().ok());
    let by = number(TYPE)?;
    let verdict = match by {
        BY_POLICY => number(POLICY).map(|policy| said(policy.cast_signed(), None)),
        _ => attribute(body, VERDICT).and_then(verdict),
    };
    Some(TraceEvent {
        packet: number(ID)?,
        family: family(*message.get(16)?),
        table: text(body, OF_TABLE)?.to_owned(),
        chain: text(body, OF_CHAIN)?.to_owned(),
        rule: handle.map(u64::from_be_bytes).filter(|_| by == BY_RULE),
        verdict: verdict.unwrap_or_else(|| "continue".into()),
        iif: number(IIF),
        oif: number(OIF),
    })
}

/// `NFPROTO_…` as nft writes it.
fn family(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        7 => "bridge",
        10 => "ip6",
        3 => "arp",
        5 => "netdev",
        _ => "?",
    }
}

/// A nested verdict: `NFTA_VERDICT_CODE` and `NFTA_VERDICT_CHAIN`.
fn verdict(nested: &[u8]) -> Option<String> {
    let code = attributes(nested).filter_map(Result::ok).find(|(kind, _)| *kind == 1)?.1;
    let code = u32::from_be_bytes(code.get(..4)?.try_into().ok()?).cast_signed();
    Some(said(code, text(nested, 2)))
}

fn said(code: i32, chain: Option<&str>) -> String {
    let chain = chain.unwrap_or_default();
    match code {
        CONTINUE => "continue".into(),
        RETURN => "return".into(),
        JUMP => format!("jump {chain}"),
        GOTO => format!("goto {chain}"),
        code if code.cast_unsigned() & 0xff == DROP => "drop".into(),
        code if code.cast_unsigned() & 0xff == ACCEPT => "accept".into(),
        2 => "stolen".into(),
        3 => "queue".into(),
        other => other.to_string(),
    }
}

/// Whatever is sent to the group.
pub(super) fn fuzz(message: &[u8]) {
    let _ = event(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_with_its_verdict() {
        let mut message = vec![0; HEADERS];
        (message[4], message[5], message[16]) = (TRACE, 10, 1);
        let mut writer = Writer::new(&mut message);
        writer.text(OF_TABLE, "zeugma");
        writer.text(OF_CHAIN, "prerouting");
        writer.bytes(RULE_HANDLE, &12_u64.to_be_bytes());
        writer.number(TYPE, BY_RULE);
        writer.nest(VERDICT, |nested| {
            nested.number(1, GOTO.cast_unsigned());
            nested.text(2, "published");
        });
        writer.number(ID, 7);
        writer.number(IIF, 3);
        let read = event(&message).unwrap();
        assert_eq!((read.packet, read.family, read.rule, read.iif), (7, "inet", Some(12), Some(3)));
        assert_eq!((read.verdict.as_str(), read.oif), ("goto published", None));
        assert_eq!(event(&message[..HEADERS + 4]), None);
    }

    #[test]
    fn verdicts_are_said_as_nft_says_them() {
        let words = [0, 1, RETURN, CONTINUE].map(|code| said(code, None));
        assert_eq!(words, ["drop", "accept", "return", "continue"]);
        assert_eq!(said(JUMP, Some("x")), "jump x");
    }
}
