//! What is programmed, read back.
//!
//! A dump of a map is no way to read 250,000 endpoints: for each message of 32 KiB the kernel walks the map from its
//! start to where the last one ended, which makes seconds. Services say how many slots they have, though, and one
//! element that is asked for by its key is one lookup. So endpoints are asked for by key, and counted: only when there
//! are others the map is dumped.

use std::ops::Range;

use netlink_packet_core::NLM_F_DUMP;
use zeugma_plan::nft::services::{Backend, Element, Frontend, Set, TABLE};

use super::super::attributes::attribute;
use super::super::elements::{Found, found};
use super::super::uapi::{DATA_VALUE, LIST_ELEMENT, TABLE_USERDATA};
use super::message::{self, Kind};
use super::{HEADERS, Programmer, Table, elements, io, is_stamp};
use crate::{Error, Refusal};

const ACTION: &str = "list the elements of services";
/// `NFTA_SET_COUNT`, since Linux 6.16.
const SET_COUNT: u16 = 20;
/// Elements of one question. Each is answered by a message that takes more than 4 KiB of the receive buffer, and the
/// kernel answers all before the first is read.
const PER_QUESTION: usize = 256;

impl Programmer {
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
                let before = observed.len();
                let by_key = matches!(set, Set::Endpoints(..)) && !self.is_doubtful;
                if by_key && self.endpoints(set, &mut observed)? {
                    continue;
                }
                observed.truncate(before);
                self.dump(set, |found| observed.extend(elements::read(set, found)))?;
            }
        }
        self.is_doubtful = false;
        Ok(observed)
    }

    /// Adds the endpoints of the services that were observed; whether these are all.
    fn endpoints(&mut self, set: Set, observed: &mut Vec<Element>) -> Result<bool, Error> {
        let slots: Vec<(Frontend, u32)> = observed
            .iter()
            .filter_map(|element| match element {
                Element::Service(at, slots, ..) => Some((*at, *slots)),
                _ => None,
            })
            .filter(|(at, _)| Set::Endpoints(at.front(), at.family()) == set)
            .collect();
        let before = observed.len();
        let keys: Vec<Element> = slots.into_iter().flat_map(|(at, slots)| slots_of(at, 0..slots)).collect();
        let mut rest = &keys[..];
        while !rest.is_empty() {
            let some = &rest[..rest.len().min(PER_QUESTION)];
            let answered = self.some(set, some, observed)?;
            // What is missing ends the answer.
            rest = &rest[(answered + 1).min(some.len())..];
        }
        let count = self.count(set)?;
        Ok(count.is_none_or(|count| count == observed.len() - before))
    }

    /// Adds those of these elements that there are before the first that there is not; how many.
    fn some(&mut self, set: Set, keys: &[Element], observed: &mut Vec<Element>) -> Result<usize, Error> {
        let sequence = message::ask(&mut self.channel, Kind::GetElements, message::ACK, |message| {
            elements::header(message, set);
            message.nest(elements::LIST, |list| {
                for element in keys {
                    list.nest(LIST_ELEMENT, |attributes| {
                        attributes
                            .nest(elements::KEY, |key| key.with(DATA_VALUE, |bytes| element.put_key(bytes)));
                    });
                }
            });
        });
        let mut answered = 0;
        self.elements(sequence, |found| {
            answered += found.len();
            observed.extend(elements::read(set, found));
        })?;
        Ok(answered)
    }

    /// How many elements a set has, where the kernel says so.
    fn count(&mut self, set: Set) -> Result<Option<usize>, Error> {
        let sequence = message::ask(&mut self.channel, Kind::GetSet, message::ACK, |message| {
            elements::header(message, set);
        });
        let mut count = None;
        let refused = self.answers(sequence, |bytes| {
            let body = bytes.get(HEADERS..).and_then(|body| attribute(body, SET_COUNT));
            count = body.and_then(|body| Some(u32::from_be_bytes(body.try_into().ok()?) as usize));
        })?;
        unless_missing(refused).map(|()| count)
    }

    /// All elements of a set, message by message; none of a set that is not there.
    pub(super) fn dump(&mut self, set: Set, visit: impl FnMut(Vec<Found>)) -> Result<(), Error> {
        let sequence = message::ask(&mut self.channel, Kind::GetElements, NLM_F_DUMP, |message| {
            elements::header(message, set);
        });
        self.elements(sequence, visit)
    }

    fn elements(&mut self, sequence: u32, mut visit: impl FnMut(Vec<Found>)) -> Result<(), Error> {
        let mut detail = None;
        let refused = self.answers(sequence, |bytes| match found(bytes) {
            Ok(found) => visit(found),
            Err(error) => detail = Some(error.to_string()),
        })?;
        detail.map_or(Ok(()), |detail| Err(Error::Reply { action: ACTION, detail }))?;
        unless_missing(refused)
    }

    fn look_at_table(&mut self) -> Result<Table, Error> {
        let sequence =
            message::ask(&mut self.channel, Kind::GetTable, message::ACK, |table| table.text(1, TABLE));
        let mut table = Table::Missing;
        let refused = self.answers(sequence, |bytes| {
            let userdata = bytes.get(HEADERS..).and_then(|body| attribute(body, TABLE_USERDATA));
            table = if userdata.is_some_and(is_stamp) { Table::Ours } else { Table::Stale };
        })?;
        unless_missing(refused).map(|()| table)
    }

    /// Sends what was pushed and shows the messages that answer it, to the end; what the kernel refused, if it did.
    fn answers(&mut self, sequence: u32, mut visit: impl FnMut(&[u8])) -> Result<Option<Refusal>, Error> {
        let refused = self.channel.answers(sequence, |bytes| {
            visit(bytes);
            false
        });
        refused.map_err(io)
    }
}

/// The elements of a frontend's slots, as far as their keys go.
fn slots_of(at: Frontend, slots: Range<u32>) -> impl Iterator<Item = Element> {
    let anyone = Backend { address: at.address, port: 0 };
    slots.map(move |slot| Element::Endpoint(at, slot, anyone))
}

fn unless_missing(refused: Option<Refusal>) -> Result<(), Error> {
    match refused {
        Some(refusal) if refusal.errno != libc::ENOENT => Err(Error::Unanswered { action: ACTION, refusal }),
        _ => Ok(()),
    }
}
