//! Subnets in a set of intervals must not overlap; networks of users do. The widest one stands for all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use zeugma_model::{Mac, Protocol};

use super::{Element, Field, SetId, Value};

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

/// The element with this key and data, in sets whose keys are no prefixes; none when the bytes are no such key.
pub fn of_bytes(set: SetId, key: &[u8], data: &[u8], owner: String) -> Option<Element> {
    Some(Element { set, key: values(&set.key(), key)?, data: values(&set.data(), data)?, owner })
}

/// A value for each field.
fn values(fields: &[Field], bytes: &[u8]) -> Option<Vec<Value>> {
    let mut at = 0;
    let mut values = Vec::with_capacity(fields.len());
    for field in fields {
        values.push(value(*field, bytes.get(at..at + field.width())?)?);
        at += field.padded_width();
    }
    Some(values)
}

fn value(field: Field, bytes: &[u8]) -> Option<Value> {
    Some(match field {
        Field::Saddr(_) | Field::Daddr(_) => Value::Address(address(bytes)?),
        Field::L4Proto => Value::Protocol(Protocol::of_number(*bytes.first()?)?),
        Field::Dport => Value::Port(u16::from_be_bytes(bytes.try_into().ok()?)),
        Field::IifName | Field::OifName => {
            Value::Interface(std::str::from_utf8(bytes).ok()?.trim_end_matches('\0').parse().ok()?)
        }
        Field::EtherSaddr => Value::Mac(Mac(bytes.try_into().ok()?)),
    })
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
    fn elements_read_back_from_their_bytes() {
        let published = Element {
            set: SetId::Published(Family::V6),
            key: vec![
                Value::Address("2001:db8::1".parse().unwrap()),
                Value::Protocol(Protocol::Udp),
                Value::Port(53),
            ],
            data: vec![Value::Address("fd00::2".parse().unwrap()), Value::Port(5353)],
            owner: "net/c/eth0".into(),
        };
        let allowed = Element {
            set: SetId::Allowed,
            key: vec![Value::Interface("veth0".parse().unwrap()), Value::Mac(Mac([2, 0, 0, 0, 0, 1]))],
            data: Vec::new(),
            owner: "net/c/eth0".into(),
        };
        for element in [published, allowed] {
            let (key, data) = (element.key_bytes(), element.data_bytes());
            assert_eq!(of_bytes(element.set, &key, &data, element.owner.clone()), Some(element));
        }
        assert_eq!(of_bytes(SetId::Isolated, b"short", &[], String::new()), None);
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
