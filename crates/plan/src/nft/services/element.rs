//! What changes in the table: elements, as values and as bytes in registers.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use zeugma_model::Protocol;

use super::{Front, STICKY, Set, Type};
use crate::Family;

/// Where flows to a service arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// The virtual address; the unspecified one for any address of the host.
    pub address: IpAddr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl Frontend {
    /// The family of its flows.
    pub fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// What kind of frontend it is.
    pub fn front(&self) -> Front {
        if self.address.is_unspecified() { Front::Port } else { Front::Vip }
    }
}

/// Where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// The endpoint's address.
    pub address: IpAddr,
    /// The endpoint's port.
    pub port: u16,
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// In [`Set::Vips`].
    Vip(IpAddr),
    /// In [`Set::Ports`].
    Port(Family, Protocol, u16),
    /// In [`Set::Services`]: slots, whether clients stay, and the name as its comment.
    Service(Frontend, u32, bool, Arc<str>),
    /// In [`Set::Affine`]: seconds of [`super::AFFINITY_SECONDS`].
    Affine(Frontend, u32),
    /// In [`Set::Endpoints`].
    Endpoint(Frontend, u32, Backend),
    /// In [`Set::Hairpin`].
    Hairpin(IpAddr),
    /// In [`Set::Direct`].
    Direct(IpNetwork),
    /// In [`Set::Local`].
    Local(IpNetwork),
    /// In [`Set::Inside`].
    Inside(IpNetwork),
    /// In [`Set::Overlays`].
    Overlay(IpNetwork),
    /// In [`Set::Within`].
    Within(IpNetwork, IpNetwork),
    /// In [`Set::Ranges`].
    Range(IpNetwork),
}

/// Flows that the kernel has to forget: those of datagrams would follow a translation that no longer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forget {
    /// What they were sent to.
    pub frontend: Frontend,
    /// Flows that these answer are kept.
    pub keep: Vec<Backend>,
}

/// Clients that stay with an endpoint that is gone have to begin anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave {
    /// What they ask for.
    pub frontend: Frontend,
    /// Whom they may stay with.
    pub keep: Vec<Backend>,
}

/// One transaction, and what is to be forgotten after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// First these go.
    pub delete: Vec<Element>,
    /// Then these come.
    pub add: Vec<Element>,
    /// Then clients that stay with others than these.
    pub leave: Vec<Leave>,
    /// Last, flows without a translation that holds.
    pub forget: Vec<Forget>,
}

impl Changes {
    /// Nothing to be done.
    pub fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.add.is_empty() && self.leave.is_empty() && self.forget.is_empty()
    }
}

impl Element {
    /// Where it belongs.
    pub fn set(&self) -> Set {
        match self {
            Self::Vip(address) => Set::Vips(Family::of(*address)),
            Self::Port(family, ..) => Set::Ports(*family),
            Self::Service(frontend, ..) => Set::Services(frontend.family()),
            Self::Affine(frontend, _) => Set::Affine(frontend.family()),
            Self::Endpoint(frontend, ..) => Set::Endpoints(frontend.front(), frontend.family()),
            Self::Hairpin(address) => Set::Hairpin(Family::of(*address)),
            Self::Direct(subnet) => Set::Direct(Family::of(subnet.ip())),
            Self::Local(subnet) => Set::Local(Family::of(subnet.ip())),
            Self::Inside(subnet) => Set::Inside(Family::of(subnet.ip())),
            Self::Overlay(subnet) => Set::Overlays(Family::of(subnet.ip())),
            Self::Within(one, _) => Set::Within(Family::of(one.ip())),
            Self::Range(subnet) => Set::Ranges(Family::of(subnet.ip())),
        }
    }

    /// Appends the key's bytes; of prefixes the first address.
    pub fn put_key(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Vip(address) => put_address(bytes, *address),
            Self::Port(_, protocol, port) => put_port(bytes, *protocol, *port),
            Self::Service(frontend, ..) | Self::Affine(frontend, _) => put_frontend(bytes, frontend),
            Self::Endpoint(frontend, slot, _) => {
                put_frontend(bytes, frontend);
                bytes.extend(slot.to_ne_bytes());
            }
            Self::Hairpin(address) => {
                put_address(bytes, *address);
                put_address(bytes, *address);
            }
            _ => self.prefixes().for_each(|prefix| put_address(bytes, prefix.network())),
        }
    }

    /// The fields of a key of prefixes; none of another key.
    fn prefixes(&self) -> impl Iterator<Item = IpNetwork> {
        let (first, second) = match self {
            Self::Direct(subnet) => (Some(*subnet), Some(*subnet)),
            Self::Within(one, other) => (Some(*one), Some(*other)),
            Self::Local(subnet) | Self::Inside(subnet) | Self::Overlay(subnet) | Self::Range(subnet) => {
                (Some(*subnet), None)
            }
            _ => (None, None),
        };
        [first, second].into_iter().flatten()
    }

    /// Appends the last key that it covers: none unless it is a prefix.
    pub fn put_last_key(&self, bytes: &mut Vec<u8>) {
        self.prefixes().for_each(|prefix| put_address(bytes, prefix.broadcast()));
    }

    /// Appends the data's bytes: none in sets.
    pub fn put_data(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Service(_, slots, is_sticky, _) => {
                put_numbers(bytes, &[0, if *is_sticky { STICKY } else { *slots }, *slots]);
            }
            Self::Affine(_, seconds) => put_numbers(bytes, &[0, *seconds]),
            Self::Endpoint(.., backend) => put_backend(bytes, backend),
            _ => {}
        }
    }

    /// Its comment: the service's name. Others have none, for it would be half of what they take in the kernel.
    pub fn comment(&self) -> Option<&str> {
        match self {
            Self::Service(.., name) => Some(name),
            _ => None,
        }
    }

    /// The element with these bytes; none when they are not what is put there. Prefixes are [`Self::read_prefix`]'s.
    pub fn read(set: Set, key: &[u8], data: &[u8], comment: &str) -> Option<Self> {
        let fields = fields(&set.key(), key)?;
        let frontend = || frontend(&fields);
        match set {
            Set::Vips(_) => Some(Self::Vip(address(fields[0])?)),
            Set::Ports(family) => Some(Self::Port(family, protocol(fields[0])?, port(fields[1])?)),
            Set::Services(_) => {
                let data = self::fields(&set.data(), data)?;
                let is_sticky = number(data[1])? == STICKY;
                Some(Self::Service(frontend()?, number(data[2])?, is_sticky, comment.into()))
            }
            Set::Affine(_) => Some(Self::Affine(frontend()?, number(self::fields(&set.data(), data)?[1])?)),
            Set::Endpoints(..) => Some(Self::Endpoint(
                frontend()?,
                number(fields[3])?,
                backend(&self::fields(&set.data(), data)?)?,
            )),
            Set::Hairpin(_) => address(fields[0]).filter(|_| fields[0] == fields[1]).map(Self::Hairpin),
            Set::Direct(_)
            | Set::Local(_)
            | Set::Inside(_)
            | Set::Overlays(_)
            | Set::Within(_)
            | Set::Ranges(_)
            | Set::Affinity(_)
            | Set::Enter(..)
            | Set::Spread(..)
            | Set::Remember(..) => None,
        }
    }

    /// The element of a set of prefixes with these ends; none when they are no prefix.
    pub fn read_prefix(set: Set, first: &[u8], last: &[u8]) -> Option<Self> {
        let width = set.family().address_len();
        let subnet = crate::nft::prefix(first.get(..width)?, last.get(..width)?)?;
        let element = match set {
            Set::Direct(_) => Self::Direct(subnet),
            Set::Local(_) => Self::Local(subnet),
            Set::Inside(_) => Self::Inside(subnet),
            Set::Overlays(_) => Self::Overlay(subnet),
            Set::Within(_) => {
                Self::Within(subnet, crate::nft::prefix(first.get(width..)?, last.get(width..)?)?)
            }
            Set::Ranges(_) => Self::Range(subnet),
            _ => return None,
        };
        let (mut key, mut end) = (Vec::new(), Vec::new());
        element.put_key(&mut key);
        element.put_last_key(&mut end);
        Some(element).filter(|_| key == first && end == last)
    }
}

/// What a client's element in [`Set::Affinity`] says: the frontend that it asked for and the endpoint that it stays
/// with; none when the bytes are not such an element's.
pub fn read_affinity(family: Family, key: &[u8], data: &[u8]) -> Option<(Frontend, Backend)> {
    let set = Set::Affinity(family);
    let (key, data) = (fields(&set.key(), key)?, fields(&set.data(), data)?);
    Some((frontend(&key[1..])?, backend(&data)?))
}

fn put_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => bytes.extend(v4.octets()),
        IpAddr::V6(v6) => bytes.extend(v6.octets()),
    }
}

fn put_numbers(bytes: &mut Vec<u8>, numbers: &[u32]) {
    for number in numbers {
        bytes.extend(number.to_ne_bytes());
    }
}

fn put_port(bytes: &mut Vec<u8>, protocol: Protocol, port: u16) {
    let [high, low] = port.to_be_bytes();
    bytes.extend([protocol.number(), 0, 0, 0, high, low, 0, 0]);
}

fn put_frontend(bytes: &mut Vec<u8>, frontend: &Frontend) {
    put_address(bytes, frontend.address);
    put_port(bytes, frontend.protocol, frontend.port);
}

fn put_backend(bytes: &mut Vec<u8>, backend: &Backend) {
    put_address(bytes, backend.address);
    let [high, low] = backend.port.to_be_bytes();
    bytes.extend([high, low, 0, 0]);
}

/// Splits registers into fields; none when there are too few or too many.
fn fields<'a>(types: &[Type], bytes: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let mut rest = bytes;
    let mut fields = Vec::with_capacity(types.len());
    for one in types {
        let (field, after) = rest.split_at_checked(one.padded_width())?;
        fields.push(field.get(..one.width())?);
        rest = after;
    }
    rest.is_empty().then_some(fields)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn protocol(bytes: &[u8]) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|one| bytes == [one.number()])
}

fn port(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn frontend(fields: &[&[u8]]) -> Option<Frontend> {
    let [address, protocol, port, ..] = fields else { return None };
    Some(Frontend {
        address: self::address(address)?,
        protocol: self::protocol(protocol)?,
        port: self::port(port)?,
    })
}

fn backend(fields: &[&[u8]]) -> Option<Backend> {
    let [address, port] = fields else { return None };
    Some(Backend { address: self::address(address)?, port: self::port(port)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Element> {
        let of = |vip: &str, endpoint: &str, subnet: &str| {
            let vip: IpAddr = vip.parse().unwrap();
            let frontend = Frontend { address: vip, protocol: Protocol::Udp, port: 53 };
            let backend = Backend { address: endpoint.parse().unwrap(), port: 5353 };
            let subnet: IpNetwork = subnet.parse().unwrap();
            vec![
                Element::Vip(vip),
                Element::Port(Family::of(vip), Protocol::Sctp, 80),
                Element::Service(frontend, 3, true, "web".into()),
                Element::Affine(frontend, 10_800),
                Element::Endpoint(frontend, 70_000, backend),
                Element::Hairpin(backend.address),
                Element::Direct(subnet),
                Element::Local(subnet),
                Element::Inside(subnet),
                Element::Overlay(subnet),
                Element::Within(subnet, IpNetwork::from(backend.address)),
                Element::Range(subnet),
            ]
        };
        [of("10.96.0.1", "10.88.0.2", "10.88.0.0/16"), of("fd00:96::1", "fd00:88::2", "fd00:88::/64")]
            .concat()
    }

    #[test]
    fn elements_are_read_as_they_are_written() {
        for element in samples() {
            let (mut key, mut last, mut data) = (Vec::new(), Vec::new(), Vec::new());
            element.put_key(&mut key);
            element.put_last_key(&mut last);
            element.put_data(&mut data);
            let again = match element.set().is_interval() {
                true => Element::read_prefix(element.set(), &key, &last),
                false => Element::read(element.set(), &key, &data, element.comment().unwrap_or_default()),
            };
            assert_eq!(again.as_ref(), Some(&element));
            key.pop();
            assert_eq!(Element::read(element.set(), &key, &data, ""), None);
            assert_eq!(Element::read_prefix(element.set(), &key, &last), None);
        }
    }

    #[test]
    fn a_slot_is_laid_out_as_registers() {
        let mut key = Vec::new();
        samples()[4].put_key(&mut key);
        let [a, b, c, d] = 70_000_u32.to_ne_bytes();
        assert_eq!(key, [10, 96, 0, 1, 17, 0, 0, 0, 0, 53, 0, 0, a, b, c, d]);
    }
}
