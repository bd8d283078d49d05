//! nfnetlink: our nftables tables and the connection tracking of one namespace.

pub(crate) mod attributes;
mod conntrack;
mod deletions;
mod elements;
pub(crate) mod foreign;
mod ruleset;
pub(crate) mod services;
pub(crate) mod table;
pub(crate) mod tracing;
mod uapi;
pub(crate) mod watch;
mod writer;

use std::os::fd::AsRawFd;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NetlinkMessage};
use netlink_packet_netfilter::nftables::{NfTablesMessage, SetElementMessage};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use zeugma_plan::nft::{
    Element, Ruleset, SetId, TABLE, TableFamily, VERSION, bridge_skeleton, make_room, of_bytes, skeleton,
};
use zeugma_plan::{Family, Mending};

use crate::channel::{Answer, Channel};
use crate::{Error, Refusal, sys};

use elements::Found;

/// `NFNL_SUBSYS_NFTABLES`, in the header of a batch.
const SUBSYSTEM: u16 = 10;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADERS: usize = 16 + 4;
/// How often a batch is tried again when others changed what it rests on.
const TRIES: usize = 50;

/// How elements are put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It may be there.
    Share,
    /// It must not be there.
    Create,
}

/// Which elements may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Those that bear the owner's mark.
    Owners,
    /// Those with the key, whatever their mark.
    Anyones,
}

/// An nfnetlink socket.
pub(crate) struct Netfilter {
    channel: Channel,
    /// Whether closing the socket may wait for an RCU grace period.
    waits_at_close: bool,
    /// Whether whoever closes it has the time to wait.
    is_patient: bool,
}

impl Drop for Netfilter {
    fn drop(&mut self) {
        if !self.is_patient && (self.waits_at_close || deletions::are_recent()) {
            sys::linger(self.channel.socket().as_raw_fd());
        }
    }
}

/// A message of a batch with its flags.
pub(crate) type Change = (TableFamily, NfTablesMessage, u16);

impl Netfilter {
    pub(crate) fn open(is_patient: bool) -> Result<Self, Error> {
        let channel = Channel::open(NETLINK_NETFILTER)
            .map_err(|source| Error::System { action: "open an nfnetlink socket", source })?;
        Ok(Self { channel, waits_at_close: false, is_patient })
    }

    /// Puts elements into their sets, installing the skeleton first where it is missing.
    pub(crate) fn put(&mut self, put: Put, elements: &[Element]) -> Result<(), Error> {
        let flags = if put == Put::Create { NLM_F_CREATE | NLM_F_EXCL } else { NLM_F_CREATE };
        for _ in 0..TRIES {
            let changes = elements::messages(elements, flags, NfTablesMessage::NewSetElement);
            match self.commit(changes)? {
                Ok(()) => return Ok(()),
                Err(refusal) if refusal.errno == libc::ENOENT => self.install(elements)?,
                Err(refusal)
                    if put == Put::Share && [libc::ENOTEMPTY, libc::EEXIST].contains(&refusal.errno) =>
                {
                    if self.widen(elements)? {
                        return Ok(());
                    }
                }
                Err(refusal) if refusal.errno == libc::EEXIST => return Err(self.taken(elements, refusal)?),
                Err(refusal) if refusal.errno == libc::EAGAIN => {}
                Err(refusal) => return Err(refused("nft add element", elements, refusal)),
            }
        }
        Err(refused("nft add element", elements, Refusal { errno: libc::EAGAIN, reason: None }))
    }

    /// Puts in subnets that overlap others: narrower ones give way. False when others were faster.
    fn widen(&mut self, elements: &[Element]) -> Result<bool, Error> {
        let mut present = Vec::new();
        for of_set in elements.chunk_by(|a, b| a.set == b.set) {
            let set = of_set[0].set;
            present.extend(self.members(set)?);
        }
        let room = make_room(elements, &present);
        let mut changes = elements::messages(&room.delete, 0, NfTablesMessage::DeleteSetElement);
        changes.extend(elements::messages(&room.add, NLM_F_CREATE, NfTablesMessage::NewSetElement));
        match self.commit(changes)? {
            Ok(()) => Ok(true),
            Err(refusal)
                if [libc::ENOENT, libc::EAGAIN, libc::ENOTEMPTY, libc::EEXIST].contains(&refusal.errno) =>
            {
                Ok(false)
            }
            Err(refusal) => Err(refused("nft add element", elements, refusal)),
        }
    }

    /// Deletes those elements that are there.
    pub(crate) fn delete(&mut self, whose: Whose, elements: &[Element]) -> Result<(), Error> {
        for _ in 0..TRIES {
            let present = self.present(whose, elements)?;
            if present.is_empty() {
                return Ok(());
            }
            let changes = elements::messages(&present, 0, NfTablesMessage::DeleteSetElement);
            match self.commit(changes)? {
                Ok(()) => return Ok(()),
                Err(refusal) if [libc::ENOENT, libc::EAGAIN].contains(&refusal.errno) => {}
                Err(refusal) => return Err(refused("nft delete element", &present, refusal)),
            }
        }
        Err(refused("nft delete element", elements, Refusal { errno: libc::EAGAIN, reason: None }))
    }

    fn present(&mut self, whose: Whose, elements: &[Element]) -> Result<Vec<Element>, Error> {
        let mut present = Vec::with_capacity(elements.len());
        for element in elements {
            if self.owner(element)?.is_some_and(|owner| whose == Whose::Anyones || owner == element.owner) {
                present.push(element.clone());
            }
        }
        Ok(present)
    }

    /// The comment of the element with this key.
    pub(crate) fn owner(&mut self, element: &Element) -> Result<Option<String>, Error> {
        let question = elements::question(element.set, Some(element));
        let found = self.ask(element.set, question, 0)?;
        Ok(found.into_iter().next().map(|found| found.owner))
    }

    /// All elements of a set.
    pub(crate) fn elements(&mut self, set: SetId) -> Result<Vec<Found>, Error> {
        self.ask(set, elements::question(set, None), NLM_F_DUMP)
    }

    /// The elements of a set as values; one that is no such value is not ours, and left out.
    pub(crate) fn members(&mut self, set: SetId) -> Result<Vec<Element>, Error> {
        let found = self.elements(set)?;
        if set.is_interval() {
            return Ok(elements::ranges(set, found));
        }
        let member = |found: Found| of_bytes(set, &found.key, &found.data.unwrap_or_default(), found.owner);
        Ok(found.into_iter().filter_map(member).collect())
    }

    /// Deletes our tables.
    pub(crate) fn delete_tables(&mut self) -> Result<(), Error> {
        [TableFamily::Inet, TableFamily::Bridge]
            .into_iter()
            .try_for_each(|family| self.delete_table(family, TABLE))?;
        self.delete_table(TableFamily::Inet, zeugma_plan::nft::services::TABLE)
    }

    /// Deletes a table; already gone is done.
    pub(crate) fn delete_table(&mut self, family: TableFamily, name: &str) -> Result<(), Error> {
        self.will_wait();
        match self.commit(vec![(family, ruleset::table_to_delete(name), 0)])? {
            Err(refusal) if refusal.errno != libc::ENOENT => {
                Err(Error::Refused { step: format!("nft delete table {family} {name}"), refusal })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Installs a table in the place of one of that name.
    pub(crate) fn replace_table(&mut self, ruleset: &Ruleset) -> Result<(), Error> {
        let mut outcome = self.commit(ruleset::messages(ruleset))?;
        if outcome.as_ref().is_err_and(|refusal| refusal.errno == libc::EEXIST) {
            self.delete_table(ruleset.family, ruleset.table)?;
            outcome = self.commit(ruleset::messages(ruleset))?;
        }
        let step = || format!("nft -f - (table {} {})", ruleset.family, ruleset.table);
        outcome.map_err(|refusal| Error::Refused { step: step(), refusal })
    }

    /// Installs the skeleton of the tables that the elements belong to. Somebody else doing it at the same
    /// time is fine: the table is created exclusively and all in one transaction.
    fn install(&mut self, elements: &[Element]) -> Result<(), Error> {
        for (family, ruleset) in [(TableFamily::Inet, skeleton()), (TableFamily::Bridge, bridge_skeleton())] {
            if !elements.iter().any(|element| element.set.table() == family) {
                continue;
            }
            match self.commit(ruleset::messages(&ruleset))? {
                Ok(()) => {}
                Err(refusal) if refusal.errno == libc::EEXIST => self.must_be_whole(elements)?,
                Err(refusal) => {
                    let step = format!("nft -f - (table {family} zeugma)");
                    return Err(Error::Refused { step, refusal });
                }
            }
        }
        Ok(())
    }

    /// The table is there: then so must be the sets, or someone took it to pieces.
    fn must_be_whole(&mut self, elements: &[Element]) -> Result<(), Error> {
        for element in elements {
            let question = elements::question(element.set, None);
            if let Err(refusal) = self.try_ask(element.set.table(), question, NLM_F_DUMP)? {
                match self.table(element.set.table())? {
                    // Deleted as a whole meanwhile: the next try makes it.
                    None => return Ok(()),
                    // What an earlier version made is completed, and nothing taken out of it: others may be at work.
                    Some(table) if (1..VERSION).contains(&table.version) && !table.is_obstructed => {
                        return self.mend(element.set.table(), Mending::Complete, &[]);
                    }
                    Some(_) => {}
                }
                let step = format!(
                    "table {} zeugma lacks {}: delete the table, it is made anew by the next ADD",
                    element.set.table(),
                    element.set.name()
                );
                return Err(Error::Refused { step, refusal });
            }
        }
        Ok(())
    }

    /// Which of the elements was taken, and by whom.
    fn taken(&mut self, elements: &[Element], refusal: Refusal) -> Result<Error, Error> {
        for element in elements {
            if let Some(owner) = self.owner(element)? {
                return Ok(Error::ElementTaken { element: element.to_string(), owner });
            }
        }
        Ok(refused("nft create element", elements, refusal))
    }

    /// One transaction: all of the changes or none.
    fn commit(&mut self, changes: Vec<Change>) -> Result<Result<(), Refusal>, Error> {
        let Some(last) = changes.len().checked_sub(1) else { return Ok(Ok(())) };
        let deletes = |change: &Change| {
            use NfTablesMessage::{DeleteRule, DeleteSetElement, DeleteTable};
            matches!(change.1, DeleteSetElement(_) | DeleteTable(_) | DeleteRule(_))
        };
        if changes.iter().any(deletes) {
            self.will_wait();
        }
        let room = self.push_batch(changes, last);
        let io = |source| Error::System { action: "talk to nfnetlink", source };
        self.channel.make_room(room.bytes).map_err(io)?;
        self.channel.flush().map_err(io)?;
        let mut refused: Option<Refusal> = None;
        self.channel
            .receive(|incoming| {
                let mut over = incoming.sequence == room.last_sequence;
                if let Answer::Ack(Err(refusal)) = incoming.answer {
                    over |= incoming.sequence == room.begin_sequence;
                    refused.get_or_insert(refusal);
                }
                over
            })
            .map_err(io)?;
        if refused.is_some() {
            self.will_wait();
        }
        Ok(refused.map_or(Ok(()), Err))
    }

    fn will_wait(&mut self) {
        if !self.waits_at_close || self.is_patient {
            deletions::note();
        }
        self.waits_at_close = true;
    }

    fn push_batch(&mut self, changes: Vec<Change>, last: usize) -> Batch {
        let begin_sequence = self.channel.push(control(ControlMessage::BatchBegin), 0);
        let mut last_sequence = begin_sequence;
        for (index, (family, message, flags)) in changes.into_iter().enumerate() {
            let start = self.channel.pending();
            last_sequence = self.channel.push(netfilter(family, message), flags);
            if index == last {
                self.channel.want_ack(start);
            }
        }
        self.channel.push(control(ControlMessage::BatchEnd), 0);
        Batch { begin_sequence, last_sequence, bytes: self.channel.pending() }
    }

    fn ask(&mut self, set: SetId, question: SetElementMessage, flags: u16) -> Result<Vec<Found>, Error> {
        let action = "look up nftables elements";
        match self.try_ask(set.table(), question, flags)? {
            Ok(found) => Ok(found),
            Err(refusal) if refusal.errno == libc::ENOENT => Ok(Vec::new()),
            Err(refusal) => Err(Error::Unanswered { action, refusal }),
        }
    }

    fn try_ask(
        &mut self,
        header: TableFamily,
        question: SetElementMessage,
        flags: u16,
    ) -> Result<Result<Vec<Found>, Refusal>, Error> {
        let action = "look up nftables elements";
        let sequence = self.channel.push(netfilter(header, NfTablesMessage::GetSetElement(question)), flags);
        let (mut found, mut detail) = (Vec::new(), None);
        let refused = self.channel.answers(sequence, |bytes| {
            match elements::found(bytes) {
                Ok(elements) => found.extend(elements),
                Err(error) => detail = Some(error.to_string()),
            }
            flags & NLM_F_DUMP == 0
        });
        let refused = refused.map_err(|source| Error::System { action, source })?;
        match (detail, refused) {
            (Some(detail), _) => Err(Error::Reply { action, detail }),
            (None, Some(refusal)) => Ok(Err(refusal)),
            (None, None) => Ok(Ok(found)),
        }
    }
}

/// Where a pushed batch begins and ends.
struct Batch {
    begin_sequence: u32,
    last_sequence: u32,
    bytes: usize,
}

fn table_protocol(family: TableFamily) -> NetfilterProtoFamily {
    match family {
        TableFamily::Inet => NetfilterProtoFamily::Inet,
        TableFamily::Bridge => NetfilterProtoFamily::Bridge,
    }
}

/// The number of an address family in netfilter.
fn protocol(family: Family) -> NetfilterProtoFamily {
    match family {
        Family::V4 => NetfilterProtoFamily::IPv4,
        Family::V6 => NetfilterProtoFamily::IPv6,
    }
}

fn netfilter(family: TableFamily, message: NfTablesMessage) -> NetlinkMessage<NetfilterMessage> {
    NetfilterMessage::new(NetfilterHeader::new(table_protocol(family), 0, 0), message).into()
}

fn control(message: ControlMessage) -> NetlinkMessage<NetfilterMessage> {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM), message).into()
}

/// Everything that is read out of an answer.
pub(crate) fn fuzz(message: &[u8]) {
    conntrack::fuzz(message);
    foreign::fuzz(message);
    tracing::fuzz(message);
    services::fuzz(message);
    table::fuzz(message);
    watch::fuzz(message);
    let Ok(found) = elements::found(message) else { return };
    for set in SetId::shared() {
        if set.is_interval() {
            drop(elements::ranges(set, found.clone()));
        }
        for one in &found {
            let _ = of_bytes(set, &one.key, &[], one.owner.clone());
        }
    }
}

fn refused(verb: &str, elements: &[Element], refusal: Refusal) -> Error {
    let first = elements.first().map(ToString::to_string).unwrap_or_default();
    let more = if elements.len() > 1 { format!(" (and {} more)", elements.len() - 1) } else { String::new() };
    Error::Refused { step: format!("{verb} {first}{more}"), refusal }
}
