//! Programs the table of services. What is to be in it is decided in `services`.
//!
//! The socket is kept open: closing one after a deletion waits for an RCU grace period, and a change of endpoints
//! takes a thousandth of that.

mod clients;
mod elements;
mod flows;
pub(super) mod message;
mod observe;
mod skeleton;

use std::os::fd::AsRawFd;

use netlink_sys::protocols::NETLINK_NETFILTER;
use zeugma_plan::nft::services::{Changes, STAMP, Set, TABLE};

use super::elements::found;
use crate::channel::Channel;
use crate::route::Route;
use crate::{Error, Refusal, sys};
use message::{Kind, Transaction};

/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADERS: usize = 16 + 4;

/// Room for what the kernel says of each message of the skeleton when it refuses them all, and for the answers to one
/// question for endpoints.
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
    /// Somebody else changed the table, so there may be what no service accounts for.
    is_doubtful: bool,
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
        Ok(Self { channel, route: Route::open()?, table: Table::Missing, is_doubtful: false })
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
            self.is_doubtful = true;
            let first = changes.add.first().or(changes.delete.first());
            let first = first.map(ToString::to_string).unwrap_or_default();
            refused(&format!("nft -f - ({first}, …)"), refusal)
        })?;
        self.table = Table::Ours;
        Ok(())
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

fn io(source: std::io::Error) -> Error {
    Error::System { action: "talk to nfnetlink about services", source }
}

fn refused(step: &str, refusal: Refusal) -> Error {
    Error::Refused { step: format!("{step} in table inet {TABLE}"), refusal }
}
