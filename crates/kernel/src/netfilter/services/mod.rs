//! Programs the table of services. What is to be in it is decided in `services`.
//!
//! The socket is kept open: closing one after a deletion waits for an RCU grace period, and a change of endpoints
//! takes a thousandth of that.

mod clients;
mod elements;
mod flows;
mod message;
mod skeleton;

use std::os::fd::AsRawFd;

use netlink_packet_core::NLM_F_DUMP;
use netlink_sys::protocols::NETLINK_NETFILTER;
use zeugma_plan::nft::services::{Changes, Element, STAMP, Set, TABLE};

use super::attributes::attribute;
use super::elements::{Found, found};
use crate::channel::{Answer, Channel};
use crate::route::Route;
use crate::{Error, Refusal, sys};
use message::{Kind, Transaction};

/// `NFTA_TABLE_USERDATA`.
const TABLE_USERDATA: u16 = 6;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADERS: usize = 16 + 4;

/// Room for what the kernel says of each message of the skeleton when it refuses them all.
const REFUSALS: usize = 4 << 20;

/// What there is of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Missing,
    /// Of another version of zeugma.
    Stale,
    Ours,
}

/// A socket through which services are programmed, in the namespace that it was opened in.
pub struct Programmer {
    channel: Channel,
    route: Route,
    table: Table,
}

impl Programmer {
    /// Opens it.
    ///
    /// # Errors
    /// [`Error::System`] when the kernel has no nfnetlink, or this process no right to it.
    pub fn open() -> Result<Self, Error> {
        let channel = Channel::open(NETLINK_NETFILTER)
            .map_err(|source| Error::System { action: "open an nfnetlink socket", source })?;
        sys::receive_buffer(channel.socket().as_raw_fd(), REFUSALS).map_err(io)?;
        Ok(Self { channel, route: Route::open()?, table: Table::Missing })
    }

    /// What is programmed; nothing where the table is missing or of another version. To be asked before the first
    /// [`Self::apply`], and after one that was refused.
    ///
    /// # Errors
    /// [`Error::Unanswered`], [`Error::Reply`], [`Error::System`].
    pub fn observe(&mut self) -> Result<Vec<Element>, Error> {
        self.table = self.look_at_table()?;
        let mut observed = Vec::new();
        if self.table == Table::Ours {
            for set in Set::programmed() {
                observed.extend(elements::read(set, self.dump(set)?));
            }
        }
        Ok(observed)
    }

    /// Carries out changes as one transaction, making the table first where it is missing; then clients
    /// leave, and flows are forgotten.
    ///
    /// # Errors
    /// [`Error::Refused`]; with [`Error::is_diverged`] somebody else changed the table, and what is programmed has to
    /// be observed anew. Nothing was changed then.
    pub fn apply(&mut self, changes: &Changes) -> Result<(), Error> {
        if !changes.delete.is_empty() || !changes.add.is_empty() {
            self.commit(changes)?;
        }
        self.leave(&changes.leave)?;
        self.forget(&changes.forget)
    }

    /// Takes the table away, with all that packets filled in.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn remove(&mut self) -> Result<(), Error> {
        let mut transaction = Transaction::begin(&mut self.channel);
        transaction.push(Kind::DeleteTable, |table| table.text(1, TABLE));
        self.table = Table::Missing;
        match transaction.commit().map_err(io)? {
            Err(refusal) if refusal.errno != libc::ENOENT => Err(refused("nft delete table", refusal)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn commit(&mut self, changes: &Changes) -> Result<(), Error> {
        let mut transaction = Transaction::begin(&mut self.channel);
        if self.table == Table::Stale {
            transaction.push(Kind::DeleteTable, |table| table.text(1, TABLE));
        }
        if self.table != Table::Ours {
            skeleton::push(&mut transaction, &zeugma_plan::nft::services::skeleton());
        }
        elements::push(&mut transaction, Kind::DeleteElements, &changes.delete);
        elements::push(&mut transaction, Kind::NewElements, &changes.add);
        transaction.commit().map_err(io)?.map_err(|refusal| {
            let first = changes.add.first().or(changes.delete.first());
            let first = first.map(ToString::to_string).unwrap_or_default();
            refused(&format!("nft -f - ({first}, …)"), refusal)
        })?;
        self.table = Table::Ours;
        Ok(())
    }

    fn look_at_table(&mut self) -> Result<Table, Error> {
        let sequence =
            message::ask(&mut self.channel, Kind::GetTable, message::ACK, |table| table.text(1, TABLE));
        self.channel.flush().map_err(io)?;
        let (mut table, mut refused) = (Table::Missing, None);
        let visit = |answer: Answer<'_>| match answer {
            Answer::Message(bytes) => {
                let userdata = bytes.get(HEADERS..).and_then(|body| attribute(body, TABLE_USERDATA));
                let is_ours = userdata.is_some_and(is_stamp);
                table = if is_ours { Table::Ours } else { Table::Stale };
                false
            }
            Answer::Ack(result) => {
                refused = result.err();
                true
            }
            Answer::Done => true,
        };
        receive(&mut self.channel, sequence, visit)?;
        match refused {
            Some(refusal) if refusal.errno != libc::ENOENT => {
                Err(Error::Unanswered { action: "look at the table of services", refusal })
            }
            _ => Ok(table),
        }
    }

    fn dump(&mut self, set: Set) -> Result<Vec<Found>, Error> {
        let action = "list the elements of services";
        let sequence = message::ask(&mut self.channel, Kind::GetElements, NLM_F_DUMP, |message| {
            elements::header(message, set);
        });
        self.channel.flush().map_err(io)?;
        let (mut all, mut refused, mut detail) = (Vec::new(), None, None);
        receive(&mut self.channel, sequence, |answer| {
            match answer {
                Answer::Message(bytes) => {
                    match found(bytes) {
                        Ok(found) => all.extend(found),
                        Err(error) => detail = Some(error.to_string()),
                    }
                    return false;
                }
                Answer::Ack(result) => refused = result.err(),
                Answer::Done => {}
            }
            true
        })?;
        match (detail, refused) {
            (Some(detail), _) => Err(Error::Reply { action, detail }),
            (None, Some(refusal)) if refusal.errno != libc::ENOENT => {
                Err(Error::Unanswered { action, refusal })
            }
            _ => Ok(all),
        }
    }
}

/// Everything that is read out of an answer.
pub(super) fn fuzz(message: &[u8]) {
    flows::fuzz(message);
    let Ok(found) = found(message) else { return };
    for set in Set::programmed() {
        drop(elements::read(set, found.clone()));
    }
}

fn is_stamp(userdata: &[u8]) -> bool {
    matches!(userdata, [0, _, text @ .., 0] if text == STAMP.as_bytes())
}

/// Shows the answers to one question until `visit` says that it has enough.
fn receive(
    channel: &mut Channel,
    sequence: u32,
    mut visit: impl FnMut(Answer<'_>) -> bool,
) -> Result<(), Error> {
    channel.receive(|incoming| incoming.sequence == sequence && visit(incoming.answer)).map_err(io)
}

fn io(source: std::io::Error) -> Error {
    Error::System { action: "talk to nfnetlink about services", source }
}

fn refused(step: &str, refusal: Refusal) -> Error {
    Error::Refused { step: format!("{step} in table inet {TABLE}"), refusal }
}
