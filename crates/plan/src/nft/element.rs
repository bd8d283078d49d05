//! Elements: the only part of the ruleset that changes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use zeugma_model::{IfName, Mac, Protocol};

use super::SetId;

/// One field of an element's key or data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// An address.
    Address(IpAddr),
    /// A prefix, in sets of intervals.
    Prefix(IpNetwork),
    /// A transport protocol.
    Protocol(Protocol),
    /// A port.
    Port(u16),
    /// An interface.
    Interface(IfName),
    /// An Ethernet address.
    Mac(Mac),
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// Where it belongs.
    pub set: SetId,
    /// Its key, a value per field.
    pub key: Vec<Value>,
    /// Its data, a value per field; empty in sets.
    pub data: Vec<Value>,
    /// Who it belongs to (at most 127 bytes): the element's comment.
    pub owner: String,
}

/// Which end of the prefixes among the values is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    First,
    Last,
}

impl Element {
    /// The key's bytes, every field padded to 32 bits; of prefixes the first address.
    pub fn key_bytes(&self) -> Vec<u8> {
        concatenated(&self.key, End::First)
    }

    /// The last key that the element covers; of prefixes the last address.
    pub fn key_end_bytes(&self) -> Vec<u8> {
        concatenated(&self.key, End::Last)
    }

    /// The data's bytes.
    pub fn data_bytes(&self) -> Vec<u8> {
        concatenated(&self.data, End::First)
    }
}

fn concatenated(values: &[Value], end: End) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    for value in values {
        push(&mut bytes, value, end);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn push(bytes: &mut Vec<u8>, value: &Value, end: End) {
    match value {
        Value::Address(address) => push_address(bytes, *address),
        Value::Prefix(prefix) => {
            push_address(bytes, if end == End::First { prefix.network() } else { prefix.broadcast() })
        }
        Value::Protocol(protocol) => bytes.push(protocol.number()),
        Value::Port(port) => bytes.extend(port.to_be_bytes()),
        Value::Interface(name) => {
            let start = bytes.len();
            bytes.extend(name.as_str().as_bytes());
            bytes.resize(start + 16, 0);
        }
        Value::Mac(mac) => bytes.extend(mac.0),
    }
}

fn push_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => bytes.extend(v4.octets()),
        IpAddr::V6(v6) => bytes.extend(v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Family;

    #[test]
    fn a_published_port_is_laid_out_as_registers() {
        let element = Element {
            set: SetId::Published(Family::V4),
            key: vec![
                Value::Address("192.0.2.1".parse().unwrap()),
                Value::Protocol(Protocol::Tcp),
                Value::Port(8080),
            ],
            data: vec![Value::Address("10.1.0.5".parse().unwrap()), Value::Port(80)],
            owner: "net/c/eth0".into(),
        };
        assert_eq!(element.key_bytes(), [192, 0, 2, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(element.data_bytes(), [10, 1, 0, 5, 0, 80, 0, 0]);
    }

    #[test]
    fn prefixes_have_two_ends() {
        let prefix: IpNetwork = "10.1.0.0/16".parse().unwrap();
        let element = Element {
            set: SetId::Network(Family::V4),
            key: vec![Value::Prefix(prefix), Value::Prefix(prefix)],
            data: vec![],
            owner: "net".into(),
        };
        assert_eq!(element.key_bytes(), [10, 1, 0, 0, 10, 1, 0, 0]);
        assert_eq!(element.key_end_bytes(), [10, 1, 255, 255, 10, 1, 255, 255]);
    }
}
