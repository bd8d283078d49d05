//! A transaction as one datagram: the messages between the batch's begin and end, and what the kernel says to it.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};

use super::super::SUBSYSTEM;
use super::super::writer::Writer;
use crate::Refusal;
use crate::channel::{Answer, Channel};

/// `NFNL_MSG_BATCH_BEGIN` and `…_END`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFPROTO_INET`.
const INET: u8 = 1;

/// A message to nf_tables (`enum nf_tables_msg_types`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    NewTable,
    GetTable,
    DeleteTable,
    NewChain,
    NewRule,
    NewSet,
    GetSet,
    NewElements,
    GetElements,
    DeleteElements,
}

impl Kind {
    fn number(self) -> u16 {
        let message = match self {
            Self::NewTable => 0,
            Self::GetTable => 1,
            Self::DeleteTable => 2,
            Self::NewChain => 3,
            Self::NewRule => 6,
            Self::NewSet => 9,
            Self::GetSet => 10,
            Self::NewElements => 12,
            Self::GetElements => 13,
            Self::DeleteElements => 14,
        };
        SUBSYSTEM << 8 | message
    }

    fn flags(self) -> u16 {
        match self {
            Self::NewTable => NLM_F_CREATE | NLM_F_EXCL,
            Self::NewRule => NLM_F_CREATE | NLM_F_APPEND,
            Self::NewChain | Self::NewSet | Self::NewElements => NLM_F_CREATE,
            Self::GetTable | Self::DeleteTable | Self::GetSet | Self::GetElements | Self::DeleteElements => 0,
        }
    }
}

/// Pushes a message outside of transactions; returns its sequence number.
pub(super) fn ask(channel: &mut Channel, kind: Kind, flags: u16, write: impl FnOnce(&mut Writer<'_>)) -> u32 {
    channel.append(kind.number(), kind.flags() | flags, |bytes| body(bytes, INET, 0, write))
}

fn body(bytes: &mut Vec<u8>, family: u8, resource: u16, write: impl FnOnce(&mut Writer<'_>)) {
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    write(&mut Writer::new(bytes));
}

/// A transaction in the making.
pub(in super::super) struct Transaction<'a> {
    channel: &'a mut Channel,
    begin: u32,
    last: Option<(usize, u32)>,
}

impl<'a> Transaction<'a> {
    pub(in super::super) fn begin(channel: &'a mut Channel) -> Self {
        let begin = channel.append(BATCH_BEGIN, 0, |bytes| body(bytes, 0, SUBSYSTEM, |_| {}));
        Self { channel, begin, last: None }
    }

    pub(in super::super) fn push(&mut self, kind: Kind, write: impl FnOnce(&mut Writer<'_>)) {
        let start = self.channel.pending();
        let sequence = self.channel.append(kind.number(), kind.flags(), |bytes| body(bytes, INET, 0, write));
        self.last = Some((start, sequence));
    }

    /// All of it or nothing.
    pub(in super::super) fn commit(self) -> io::Result<Result<(), Refusal>> {
        let Some((start, last)) = self.last else {
            self.channel.discard();
            return Ok(Ok(()));
        };
        self.channel.want_ack(start);
        self.channel.append(BATCH_END, 0, |bytes| body(bytes, 0, SUBSYSTEM, |_| {}));
        self.channel.make_room(self.channel.pending())?;
        self.channel.flush()?;
        let mut refused: Option<Refusal> = None;
        let begin = self.begin;
        self.channel.receive(|incoming| {
            // What is left over from a transaction that was refused.
            if incoming.sequence < begin {
                return false;
            }
            let mut over = incoming.sequence == last;
            if let Answer::Ack(Err(refusal)) = incoming.answer {
                over |= incoming.sequence == begin;
                refused.get_or_insert(refusal);
            }
            over
        })?;
        Ok(refused.map_or(Ok(()), Err))
    }
}

/// `NLM_F_ACK` for questions that are answered by nothing else.
pub(super) const ACK: u16 = NLM_F_ACK;
