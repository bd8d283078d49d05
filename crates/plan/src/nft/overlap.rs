//! Subnets in a set of intervals must not overlap; networks of users do. The widest one stands for all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::{Element, SetId, Value};

/// What makes room for elements that overlap others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    /// Narrower elements, to delete.
    pub delete: Vec<Element>,
    /// Those wanted that no element covers yet, to add.
    pub add: Vec<Element>,
}

/// Decides which of `present` give way to `wanted`, and which of `wanted` are covered.
pub fn make_room(wanted: &[Element], present: &[Element]) -> Room {
    let mut room = Room::default();
    for element in wanted {
        let others: Vec<&Element> = present.iter().filter(|other| other.set == element.set).collect();
        if others.iter().any(|other| covers(other, element))
            || room.add.iter().any(|other| covers(other, element))
        {
            continue;
        }
        let narrower =
            others.into_iter().filter(|other| covers(element, other) && !room.delete.contains(other));
        room.delete.extend(narrower.cloned().collect::<Vec<_>>());
        room.add.push(element.clone());
    }
    room
}

/// Whether one element's keys contain all of the other's.
pub fn covers(wide: &Element, narrow: &Element) -> bool {
    wide.set == narrow.set
        && wide.key_bytes() <= narrow.key_bytes()
        && narrow.key_end_bytes() <= wide.key_end_bytes()
}

/// The element whose keys are the prefixes from `first` to `last`; none when they are no prefixes.
pub fn of_range(set: SetId, first: &[u8], last: &[u8], owner: String) -> Option<Element> {
    let mut key = Vec::new();
    let mut at = 0;
    for field in set.key() {
        let range = at..at + field.width();
        key.push(Value::Prefix(prefix(first.get(range.clone())?, last.get(range)?)?));
        at += field.padded_width();
    }
    Some(Element { set, key, data: Vec::new(), owner })
}

/// The element of a set of interface names with this key.
pub fn of_names(set: SetId, key: &[u8], owner: String) -> Option<Element> {
    let names = key.chunks(16).map(|bytes| {
        let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
        Some(Value::Interface(text.parse().ok()?))
    });
    Some(Element { set, key: names.collect::<Option<_>>()?, data: Vec::new(), owner })
}

/// The prefix from the address `first` to `last`.
pub(super) fn prefix(first: &[u8], last: &[u8]) -> Option<IpNetwork> {
    let equal_bits: u32 = first
        .iter()
        .zip(last)
        .scan(true, |equal, (a, b)| {
            let bits = if *equal { (a ^ b).leading_zeros() } else { 0 };
            *equal &= a == b;
            Some(bits)
        })
        .sum();
    IpNetwork::new(address(first)?, u8::try_from(equal_bits).ok()?).ok()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;

    fn pair(text: &str) -> Element {
        let prefix: IpNetwork = text.parse().unwrap();
        let key = vec![Value::Prefix(prefix), Value::Prefix(prefix)];
        Element { set: SetId::Network(Family::of(prefix.ip())), key, data: Vec::new(), owner: "net".into() }
    }

    fn check(wanted: &[&str], present: &[&str], delete: &[&str], add: &[&str]) {
        let elements = |texts: &[&str]| texts.iter().map(|text| pair(text)).collect::<Vec<_>>();
        let room = make_room(&elements(wanted), &elements(present));
        assert_eq!(room, Room { delete: elements(delete), add: elements(add) }, "{wanted:?} {present:?}");
    }

    #[test]
    fn the_widest_subnet_stands_for_all() {
        check(&["10.1.0.0/16"], &["10.1.2.0/24", "10.2.0.0/24"], &["10.1.2.0/24"], &["10.1.0.0/16"]);
        check(&["10.1.2.0/24"], &["10.1.0.0/16"], &[], &[]);
        check(&["10.1.0.0/16"], &["10.1.0.0/16"], &[], &[]);
        check(&["fd00::/64"], &["10.1.0.0/16"], &[], &["fd00::/64"]);
    }

    #[test]
    fn ranges_are_prefixes_again() {
        for text in ["10.1.0.0/16", "10.1.2.128/25", "192.0.2.1/32", "fd00:1::/64", "0.0.0.0/0"] {
            let element = pair(text);
            let again = of_range(element.set, &element.key_bytes(), &element.key_end_bytes(), "net".into());
            assert_eq!(again, Some(element), "{text}");
        }
    }
}
