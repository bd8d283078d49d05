//! Elements ↔ netlink messages.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementFlags, SetElementList,
    SetElementMessage,
};
use zeugma_plan::nft::{Element, SetId, TABLE, of_range};

use super::attributes::{Cut, attribute, attributes};
use super::uapi::{DATA_VALUE, LIST_ELEMENT, UDATA_COMMENT};
use super::{Change, HEADERS, SUBSYSTEM};

/// Elements in one message: a list attribute holds 64 KiB.
const PER_MESSAGE: usize = 200;
/// `NFT_MSG_NEWSETELEM` behind `NFNL_SUBSYS_NFTABLES`.
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
/// `NFTA_SET_ELEM_LIST_ELEMENTS`.
const LIST_ELEMENTS: u16 = 3;
/// `enum nft_set_elem_attributes`.
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const ELEMENT_USERDATA: u16 = 6;
const ELEMENT_KEY_END: u16 = 10;
/// `NFT_SET_ELEM_INTERVAL_END`, in the last byte of the flags (big endian).
const INTERVAL_END: u8 = 1;

/// An element that the kernel has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The bytes of its key.
    pub(crate) key: Vec<u8>,
    /// The bytes of the last key it covers, in sets of concatenated intervals.
    pub(crate) key_end: Option<Vec<u8>>,
    /// The bytes of its data.
    pub(crate) data: Option<Vec<u8>>,
    /// Whether it marks the end of an interval.
    pub(crate) is_end: bool,
    /// Its comment; empty when it has none.
    pub(crate) owner: String,
}

/// The changes that put or delete elements, grouped by set, in order.
pub(super) fn messages(
    elements: &[Element],
    flags: u16,
    wrap: fn(SetElementMessage) -> NfTablesMessage,
) -> Vec<Change> {
    elements
        .chunk_by(|a, b| a.set == b.set)
        .flat_map(|of_set| of_set.chunks(PER_MESSAGE))
        .map(|chunk| (chunk[0].set.table(), wrap(message(chunk[0].set, chunk)), flags))
        .collect()
}

/// A question for one element, or for all of a set.
pub(super) fn question(set: SetId, element: Option<&Element>) -> SetElementMessage {
    match element {
        None => header(set),
        Some(element) => {
            let mut message = header(set);
            let key = vec![ListAttribute::Element(key_attributes(element))];
            message.attributes.push(SetElementList::Elements(key));
            message
        }
    }
}

fn header(set: SetId) -> SetElementMessage {
    SetElementMessage {
        attributes: vec![SetElementList::Table(TABLE.into()), SetElementList::Set(set.name())],
    }
}

fn message(set: SetId, elements: &[Element]) -> SetElementMessage {
    let mut message = header(set);
    let list = elements.iter().flat_map(encoded).map(ListAttribute::Element).collect();
    message.attributes.push(SetElementList::Elements(list));
    message
}

/// The kernel's elements for one of ours: an interval of a single field is a start and an end.
fn encoded(element: &Element) -> Vec<Vec<SetElementAttribute>> {
    let mut start = key_attributes(element);
    if !element.data.is_empty() {
        start.push(SetElementAttribute::Data(DataAttribute::Value(element.data_bytes())));
    }
    start.push(SetElementAttribute::UserData(comment(&element.owner)));
    let end = is_plain_interval(element.set).then(|| after(element.key_end_bytes())).flatten();
    let end = end.map(|key| {
        vec![
            SetElementAttribute::Key(DataAttribute::Value(key)),
            SetElementAttribute::Flags(SetElementFlags::IntervalEnd),
        ]
    });
    std::iter::once(start).chain(end).collect()
}

fn key_attributes(element: &Element) -> Vec<SetElementAttribute> {
    let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(element.key_bytes()))];
    if element.set.is_interval() && !is_plain_interval(element.set) {
        let end = vec![DefaultNla::new(DATA_VALUE, element.key_end_bytes())];
        attributes.push(SetElementAttribute::KeyEnd(end));
    }
    attributes
}

fn is_plain_interval(set: SetId) -> bool {
    set.is_interval() && set.key().len() == 1
}

/// The address after `last`; none after the very last.
pub(super) fn after(mut last: Vec<u8>) -> Option<Vec<u8>> {
    for byte in last.iter_mut().rev() {
        let (next, carry) = byte.overflowing_add(1);
        *byte = next;
        if !carry {
            return Some(last);
        }
    }
    None
}

fn comment(owner: &str) -> Vec<u8> {
    let length = u8::try_from(owner.len() + 1).unwrap_or(u8::MAX);
    let mut bytes = vec![UDATA_COMMENT, length];
    bytes.extend(owner.bytes().take(usize::from(length) - 1));
    bytes.push(0);
    bytes
}

fn comment_in(userdata: &[u8]) -> Option<String> {
    let mut rest = userdata;
    while let [kind, length, tail @ ..] = rest {
        let value = tail.get(..usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        rest = &tail[usize::from(*length)..];
    }
    None
}

/// The elements in a message of the kernel; a message about something else has none.
pub(super) fn found(message: &[u8]) -> Result<Vec<Found>, Cut> {
    let kind = message.get(4..6).map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    let Some(body) = message.get(HEADERS..).filter(|_| kind == Some(NEW_ELEMENTS)) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for list in attributes(body) {
        let (LIST_ELEMENTS, list) = list? else { continue };
        for element in attributes(list) {
            let (LIST_ELEMENT, element) = element? else { continue };
            found.extend(one(element)?);
        }
    }
    Ok(found)
}

/// The subnets in a set of intervals. A set of single fields lists starts and ends apart.
pub(super) fn ranges(set: SetId, mut found: Vec<Found>) -> Vec<Element> {
    if !is_plain_interval(set) {
        let range = |found: Found| of_range(set, &found.key, found.key_end.as_ref()?, found.owner.clone());
        return found.into_iter().filter_map(range).collect();
    }
    found.sort_by(|a, b| (&a.key, !a.is_end).cmp(&(&b.key, !b.is_end)));
    let mut elements = Vec::new();
    for (at, start) in found.iter().enumerate().filter(|(_, found)| !found.is_end) {
        let end = found[at + 1..].iter().find(|other| other.is_end);
        let last = end.map_or(vec![u8::MAX; start.key.len()], |end| before(end.key.clone()));
        elements.extend(of_range(set, &start.key, &last, start.owner.clone()));
    }
    elements
}

/// The address before an end, which is exclusive and never the very first.
pub(super) fn before(mut end: Vec<u8>) -> Vec<u8> {
    for byte in end.iter_mut().rev() {
        let (previous, borrow) = byte.overflowing_sub(1);
        *byte = previous;
        if !borrow {
            break;
        }
    }
    end
}

fn one(element: &[u8]) -> Result<Option<Found>, Cut> {
    let mut found = Found { key: Vec::new(), key_end: None, data: None, is_end: false, owner: String::new() };
    for attribute in attributes(element) {
        match attribute? {
            (ELEMENT_KEY, data) => found.key = value(data).unwrap_or_default(),
            (ELEMENT_DATA, data) => found.data = value(data),
            (ELEMENT_FLAGS, bits) => found.is_end = bits.last().is_some_and(|low| low & INTERVAL_END != 0),
            (ELEMENT_USERDATA, bytes) => found.owner = comment_in(bytes).unwrap_or_default(),
            (ELEMENT_KEY_END, data) => found.key_end = value(data),
            _ => {}
        }
    }
    Ok(Some(found).filter(|found| !found.key.is_empty()))
}

fn value(data: &[u8]) -> Option<Vec<u8>> {
    attribute(data, DATA_VALUE).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_after_the_last_is_none() {
        assert_eq!(after(vec![10, 1, 255, 255]), Some(vec![10, 2, 0, 0]));
        assert_eq!(after(vec![255; 4]), None);
    }

    #[test]
    fn comments_round_trip_and_foreign_userdata_is_survived() {
        assert_eq!(comment_in(&comment("net/c/eth0")).as_deref(), Some("net/c/eth0"));
        assert_eq!(comment_in(&[1, 2, 0, 0, 0, 2, b'x', 0]).as_deref(), Some("x"));
        assert_eq!(comment_in(&[0, 200, 1]), None);
        assert_eq!(comment_in(&[7]), None);
    }
}
