//! Subnets in a set of intervals must not overlap; networks of users do. The widest one stands for all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

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
    if wide.set != narrow.set {
        return false;
    }
    let set = wide.set;
    let (wide, narrow) =
        ([wide.key_bytes(), wide.key_end_bytes()], [narrow.key_bytes(), narrow.key_end_bytes()]);
    let is_within = |field: Range<usize>| {
        let part = |bytes: &Vec<u8>| bytes.get(field.clone()).map(<[u8]>::to_vec);
        part(&wide[0]) <= part(&narrow[0]) && part(&narrow[1]) <= part(&wide[1])
    };
    places(set).all(|(_, place)| is_within(place))
}

/// Where the fields of a set's key lie among its bytes.
fn places(set: SetId) -> impl Iterator<Item = (Field, Range<usize>)> {
    set.key().into_iter().scan(0, |at, field| {
        let place = *at..*at + field.width();
        *at += field.padded_width();
        Some((field, place))
    })
}

/// The element whose keys are the prefixes from `first` to `last`; none when they are no prefixes.
pub fn of_range(set: SetId, first: &[u8], last: &[u8], owner: String) -> Option<Element> {
    let of_field = |(field, place): (Field, Range<usize>)| {
        let (first, last) = (first.get(place.clone())?, last.get(place)?);
        match field {
            Field::Saddr(_) | Field::Daddr(_) => prefix(first, last).map(Value::Prefix),
            _ => value(field, first).filter(|_| first == last),
        }
    };
    let key = places(set).map(of_field).collect::<Option<_>>()?;
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
    fn of_pairs_each_part_is_within_the_other_s() {
        let element = |one: &str, other: &str| Element {
            set: SetId::Network(Family::V4),
            key: [one, other].map(|text| Value::Prefix(text.parse().unwrap())).into(),
            data: Vec::new(),
            owner: "net".into(),
        };
        let wide = element("10.0.0.0/8", "10.1.0.0/16");
        assert!(covers(&wide, &element("10.1.0.0/16", "10.1.2.0/24")));
        assert!(!covers(&wide, &element("10.1.0.0/16", "192.168.0.0/16")));
    }

    #[test]
    fn an_interface_with_a_prefix_reads_back() {
        let way = Element {
            set: SetId::Ways(Family::V4),
            key: vec![
                Value::Interface("vx-front".parse().unwrap()),
                Value::Prefix("10.1.0.0/16".parse().unwrap()),
            ],
            data: Vec::new(),
            owner: "front".into(),
        };
        let again = of_range(way.set, &way.key_bytes(), &way.key_end_bytes(), "front".into());
        assert_eq!(again, Some(way));
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
