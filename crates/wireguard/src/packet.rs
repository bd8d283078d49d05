//! What is in the headers of an inner packet, and the header of virtio that goes with it to and from the TUN device.

use crate::checksum::{folded, pseudo, sum};

/// Bytes of a [`Virtio`].
pub(crate) const VIRTIO: usize = 10;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

const NEEDS_CHECKSUM: u8 = 1;
const IS_VALID: u8 = 2;

/// `struct virtio_net_hdr` (linux/virtio_net.h), of a device in the machine's own order of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Virtio {
    pub(crate) flags: u8,
    pub(crate) kind: u8,
    pub(crate) header: u16,
    pub(crate) segment: u16,
    pub(crate) checksum_from: u16,
    pub(crate) checksum_at: u16,
}

/// What a piece is to be cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Udp,
}

impl Virtio {
    pub(crate) fn read(bytes: &[u8; VIRTIO]) -> Self {
        let [flags, kind, a, b, c, d, e, f, g, h] = *bytes;
        let [header, segment, checksum_from, checksum_at] =
            [[a, b], [c, d], [e, f], [g, h]].map(u16::from_ne_bytes);
        Self { flags, kind, header, segment, checksum_from, checksum_at }
    }

    pub(crate) fn bytes(self) -> [u8; VIRTIO] {
        let mut bytes = [0; VIRTIO];
        (bytes[0], bytes[1]) = (self.flags, self.kind);
        let numbers = [self.header, self.segment, self.checksum_from, self.checksum_at];
        bytes[2..].copy_from_slice(numbers.map(u16::to_ne_bytes).as_flattened());
        bytes
    }

    /// A packet that is whole, and whose checksum was found right.
    pub(crate) fn valid() -> Self {
        Self { flags: IS_VALID, ..Self::default() }
    }

    /// A piece of segments whose checksum the kernel is to make.
    pub(crate) fn joined(is_v6: bool, kind: Kind, from: usize, header: usize, segment: usize) -> Self {
        let (number, at) = match kind {
            Kind::Tcp => (if is_v6 { 4 } else { 1 }, 16),
            Kind::Udp => (5, 6),
        };
        let short = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        Self {
            flags: NEEDS_CHECKSUM,
            kind: number,
            header: short(header),
            segment: short(segment),
            checksum_from: short(from),
            checksum_at: at,
        }
    }

    pub(crate) fn needs_checksum(self) -> bool {
        self.flags & NEEDS_CHECKSUM != 0
    }

    /// None for a packet that is whole; an error for what was not asked for.
    pub(crate) fn segments(self) -> Result<Option<Kind>, Malformed> {
        /// `VIRTIO_NET_HDR_GSO_ECN`: the stream has ECN.
        const ECN: u8 = 0x80;
        match self.kind & !ECN {
            0 => Ok(None),
            1 | 4 => Ok(Some(Kind::Tcp)),
            5 => Ok(Some(Kind::Udp)),
            _ => Err(Malformed),
        }
    }
}

/// No packet that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

pub(crate) fn is_v6(packet: &[u8]) -> bool {
    packet.first().is_some_and(|byte| byte >> 4 == 6)
}

/// Where the source and destination addresses are, both together.
pub(crate) fn addresses(packet: &[u8]) -> &[u8] {
    if is_v6(packet) { &packet[8..40] } else { &packet[12..20] }
}

/// The destination address; for an IPv4 packet too short or with another version none.
pub(crate) fn destination(packet: &[u8]) -> Option<std::net::IpAddr> {
    match packet.first()? >> 4 {
        4 => packet.get(16..20)?.first_chunk::<4>().map(|octets| (*octets).into()),
        6 => packet.get(24..40)?.first_chunk::<16>().map(|octets| (*octets).into()),
        _ => None,
    }
}

/// The two bits of RFC 3168.
pub(crate) fn ecn(packet: &[u8]) -> u8 {
    match packet {
        [first, second, ..] if first >> 4 == 6 => (second >> 4) & 3,
        [_, second, ..] => second & 3,
        _ => 0,
    }
}

/// On the way out (RFC 6040, 4.1 as Linux has it): that the inner packet met congestion is its own news.
pub(crate) fn outer_ecn(inner: u8) -> u8 {
    if inner == 3 { 2 } else { inner }
}

/// What a peer sent is one packet with a header that is all there, and has been told of congestion: a peer can write any
/// length into it, and boringtun cuts the packet to that. False: it is to be dropped.
pub(crate) fn admit(packet: &mut [u8], outer: u8) -> bool {
    is_whole(packet) && tell_congestion(packet, outer)
}

fn is_whole(packet: &[u8]) -> bool {
    match packet.first().map(|byte| (byte >> 4, usize::from(byte & 15) * 4)) {
        Some((4, header)) => header >= 20 && packet.len() >= header,
        Some((6, _)) => packet.len() >= 40,
        _ => false,
    }
}

/// On the way in (RFC 6040, 4.2): congestion that the outer packet met is told to the inner one. False: the inner one
/// cannot be told, and is to be dropped.
fn tell_congestion(packet: &mut [u8], outer: u8) -> bool {
    if outer != 3 {
        return true;
    }
    match ecn(packet) {
        0 => return false,
        3 => return true,
        _ => {}
    }
    if is_v6(packet) {
        packet[1] |= 0x30;
    } else {
        packet[1] |= 3;
        finish_ipv4(packet);
    }
    true
}

/// Makes the checksum of an IPv4 header.
pub(crate) fn finish_ipv4(packet: &mut [u8]) {
    let length = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let checksum = !folded(sum(&packet[..length.min(packet.len())]));
    packet[10..12].copy_from_slice(&checksum.to_ne_bytes());
}

/// Makes the packet's length what it is.
pub(crate) fn set_length(packet: &mut [u8], length: usize) {
    let short = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    if is_v6(packet) {
        packet[4..6].copy_from_slice(&short(length.saturating_sub(40)));
    } else {
        packet[2..4].copy_from_slice(&short(length));
    }
}

/// Where the checksum is behind the transport's header, and its number.
pub(crate) fn checksum_of(kind: Kind) -> (usize, u8) {
    match kind {
        Kind::Tcp => (16, TCP),
        Kind::Udp => (6, UDP),
    }
}

/// Makes the whole checksum of a segment whose transport header is at `from`.
pub(crate) fn finish_transport(packet: &mut [u8], from: usize, kind: Kind) {
    let (at, protocol) = checksum_of(kind);
    packet[from + at..from + at + 2].fill(0);
    let total = pseudo(addresses(packet), protocol, packet.len() - from) + sum(&packet[from..]);
    write_checksum(&mut packet[from + at..], folded(total), kind);
}

/// Inverts the sum and writes it; UDP has another way to say 0 (RFC 768).
fn write_checksum(place: &mut [u8], sum: u16, kind: Kind) {
    let checksum = match (!sum, kind) {
        (0, Kind::Udp) => 0xffff,
        (checksum, _) => checksum,
    };
    place[..2].copy_from_slice(&checksum.to_ne_bytes());
}

/// Ends the checksum that the kernel began (`CHECKSUM_PARTIAL`): it summed what is not in the packet.
pub(crate) fn finish_begun(packet: &mut [u8], from: usize, at: usize) -> Result<(), Malformed> {
    if from + at + 2 > packet.len() || at % 2 == 1 {
        return Err(Malformed);
    }
    let total = folded(sum(&packet[from..]));
    let kind = if at == 6 { Kind::Udp } else { Kind::Tcp };
    write_checksum(&mut packet[from + at..], total, kind);
    Ok(())
}
