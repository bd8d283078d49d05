//! Elements of the table of services ↔ netlink messages.

use std::collections::BTreeMap;

use zeugma_plan::nft::services::{Element, Set, TABLE};

use super::super::elements::{Found, after, before};
use super::super::uapi::{DATA_VALUE, LIST_ELEMENT};
use super::super::writer::Writer;
use super::message::{Kind, Transaction};

/// `NFTA_SET_ELEM_LIST_ELEMENTS`.
pub(super) const LIST: u16 = 3;
/// `enum nft_set_elem_attributes`.
pub(super) const KEY: u16 = 1;
pub(super) const DATA: u16 = 2;
const FLAGS: u16 = 3;
const USERDATA: u16 = 6;
const KEY_END: u16 = 10;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;
/// A list is an attribute and has less than 64 KiB; the largest element has far less than the rest.
const FULL: usize = 63 * 1024;

/// Pushes elements, grouped by set.
pub(super) fn push(transaction: &mut Transaction<'_>, kind: Kind, elements: &[Element]) {
    let mut by_set: BTreeMap<Set, Vec<&Element>> = BTreeMap::new();
    for element in elements {
        by_set.entry(element.set()).or_default().push(element);
    }
    for (set, elements) in by_set {
        let mut rest = elements.iter().peekable();
        while rest.peek().is_some() {
            transaction.push(kind, |message| {
                header(message, set);
                message.nest(LIST, |list| {
                    let start = list.len();
                    while let Some(element) = rest.next_if(|_| list.len() - start < FULL) {
                        put(list, element, kind);
                    }
                });
            });
        }
    }
}

/// Which set a message is about.
pub(super) fn header(message: &mut Writer<'_>, set: Set) {
    message.text(1, TABLE);
    message.text(2, &set.name());
}

fn put(list: &mut Writer<'_>, element: &Element, kind: Kind) {
    let set = element.set();
    list.nest(LIST_ELEMENT, |attributes| {
        attributes.nest(KEY, |key| key.with(DATA_VALUE, |bytes| element.put_key(bytes)));
        if kind == Kind::NewElements {
            if !set.data().is_empty() {
                attributes.nest(DATA, |data| data.with(DATA_VALUE, |bytes| element.put_data(bytes)));
            }
            if let Some(comment) = element.comment() {
                attributes.with(USERDATA, |bytes| put_comment(bytes, comment));
            }
        }
        if set.is_interval() && set.key().len() > 1 {
            attributes.nest(KEY_END, |key| key.with(DATA_VALUE, |bytes| element.put_last_key(bytes)));
        }
    });
    if set.is_interval() && set.key().len() == 1 {
        put_end(list, element);
    }
}

/// An interval of a single field is two elements; the one that ends the very last has no second.
fn put_end(list: &mut Writer<'_>, element: &Element) {
    let mut last = Vec::new();
    element.put_last_key(&mut last);
    if let Some(end) = after(last) {
        list.nest(LIST_ELEMENT, |attributes| {
            attributes.nest(KEY, |key| key.bytes(DATA_VALUE, &end));
            attributes.number(FLAGS, INTERVAL_END);
        });
    }
}

/// `NFTNL_UDATA_SET_ELEM_COMMENT`, at most 127 bytes and a NUL.
fn put_comment(bytes: &mut Vec<u8>, comment: &str) {
    let length = comment.len().min(127);
    bytes.extend([0, length as u8 + 1]);
    bytes.extend(&comment.as_bytes()[..length]);
    bytes.push(0);
}

/// What the kernel's elements stand for. What cannot be read is none of ours, and nothing asks for it to be there.
pub(super) fn read(set: Set, found: Vec<Found>) -> Vec<Element> {
    if !set.is_interval() {
        let read = |found: &Found| {
            Element::read(set, &found.key, found.data.as_deref().unwrap_or_default(), &found.owner)
        };
        return found.iter().filter_map(read).collect();
    }
    if set.key().len() > 1 {
        let read = |found: &Found| Element::read_prefix(set, &found.key, found.key_end.as_ref()?);
        return found.iter().filter_map(read).collect();
    }
    ranges(set, found)
}

fn ranges(set: Set, mut found: Vec<Found>) -> Vec<Element> {
    found.sort_by(|a, b| (&a.key, !a.is_end).cmp(&(&b.key, !b.is_end)));
    let starts = found.iter().enumerate().filter(|(_, one)| !one.is_end);
    let range = |(at, start): (usize, &Found)| {
        let end = found[at + 1..].iter().find(|other| other.is_end);
        let last = end.map_or(vec![u8::MAX; start.key.len()], |end| before(end.key.clone()));
        Element::read_prefix(set, &start.key, &last)
    };
    starts.filter_map(range).collect()
}
