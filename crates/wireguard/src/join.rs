//! Joins consecutive packets of one flow, so that the kernel's stack is asked once for many: what its own GRO does for
//! packets of network cards (net/ipv4/tcp_offload.c, udp_offload.c). Order within a flow is kept.

use std::io::IoSlice;
use std::ops::Range;

use crate::checksum::{folded, pseudo, sum};
use crate::packet::{self, Kind, VIRTIO, Virtio};

/// Packets of one piece, at most: as many datagrams as the kernel takes for UDP.
const MOST: usize = 64;
/// How far back a flow's last piece is looked for.
const NEAR: usize = 16;
/// The longest IP packet.
const LONGEST: usize = 65_535;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const FIN: u8 = 0x01;

/// What a packet's headers say of it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    kind: Kind,
    /// Where the transport's header begins, and where the payload.
    from: usize,
    behind: usize,
    /// Whether it may stand in one piece with others of its flow.
    joins: bool,
}

/// Packets that go to the kernel at once.
#[derive(Debug, Default)]
struct Piece {
    /// Of the first packet, if it is of a flow.
    seen: Option<Seen>,
    /// The first packet with its payload, then payloads.
    parts: Vec<Range<usize>>,
    /// Bytes of payload of all, and of each but the last.
    payload: usize,
    segment: usize,
    is_closed: bool,
    /// What the last packet said that the whole has to say.
    last_flags: u8,
    about: [u8; VIRTIO],
}

/// Packets in a buffer, joined as they are added.
#[derive(Debug, Default)]
pub(crate) struct Joiner {
    /// The first `used` ones count, the others keep their memory.
    pieces: Vec<Piece>,
    used: usize,
    joins_udp: bool,
}

impl Joiner {
    pub(crate) fn new(joins_udp: bool) -> Self {
        Self { joins_udp, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Adds the packet at `range` of `buffer`, which has passed as an IP packet of that length.
    pub(crate) fn add(&mut self, buffer: &[u8], range: Range<usize>) {
        let packet = &buffer[range.clone()];
        let seen = Seen::of(packet, self.joins_udp);
        if let Some(seen) = seen {
            let near = self.used.saturating_sub(NEAR);
            let mut recent = self.pieces[near..self.used].iter_mut().rev();
            if let Some(piece) = recent.find(|piece| piece.is_of_flow(buffer, packet, seen))
                && piece.takes(buffer, packet, seen)
            {
                return piece.push(packet, seen, range);
            }
        }
        self.begin(packet, seen, range);
    }

    fn begin(&mut self, packet: &[u8], seen: Option<Seen>, range: Range<usize>) {
        if self.used == self.pieces.len() {
            self.pieces.push(Piece::default());
        }
        let piece = &mut self.pieces[self.used];
        self.used += 1;
        piece.parts.clear();
        piece.parts.push(range);
        piece.seen = seen;
        piece.is_closed = seen.is_none_or(|seen| !seen.joins || seen.ends(packet));
        piece.payload = seen.map_or(0, |seen| packet.len() - seen.behind);
        piece.segment = piece.payload;
        piece.last_flags = 0;
    }

    /// Hands on every piece, its header of virtio in front, and forgets them.
    pub(crate) fn finish(&mut self, buffer: &mut [u8], mut hand_on: impl FnMut(&[IoSlice<'_>])) {
        let pieces = &mut self.pieces[..self.used];
        pieces.iter_mut().for_each(|piece| piece.complete(buffer));
        for piece in pieces {
            let mut slices = [IoSlice::new(&[]); MOST + 1];
            slices[0] = IoSlice::new(&piece.about);
            for (slice, part) in slices[1..].iter_mut().zip(&piece.parts) {
                *slice = IoSlice::new(&buffer[part.clone()]);
            }
            hand_on(&slices[..=piece.parts.len()]);
        }
        self.used = 0;
    }
}

impl Seen {
    /// None for what is of no flow that is looked after: options of IP, fragments, other protocols. Without payload or
    /// with a checksum that is wrong, a packet stands alone, and nothing of its flow gets past it.
    fn of(packet: &[u8], joins_udp: bool) -> Option<Self> {
        let (from, protocol) = match *packet {
            [0x45, _, _, _, _, _, flags, fragment, _, protocol, ..] => {
                (flags & 0x3f == 0 && fragment == 0).then_some((20, protocol))?
            }
            [first, _, _, _, _, _, next, ..] if first >> 4 == 6 => (40, next),
            _ => return None,
        };
        let (kind, transport) = match protocol {
            packet::TCP => (Kind::Tcp, usize::from(packet.get(from + 12)? >> 4) * 4),
            packet::UDP => (Kind::Udp, 8),
            _ => return None,
        };
        let seen = Self { kind, from, behind: from + transport, joins: false };
        if transport < 8 || packet.len() < seen.behind {
            return None;
        }
        let is_worth = packet.len() > seen.behind && (kind == Kind::Tcp || joins_udp);
        Some(Self { joins: is_worth && seen.is_plain(packet) && seen.is_right(packet), ..seen })
    }

    /// Whether its transport header is one that may be joined.
    fn is_plain(self, packet: &[u8]) -> bool {
        let transport = &packet[self.from..];
        match self.kind {
            Kind::Tcp => self.behind - self.from >= 20 && transport[13] & !(PSH | FIN) == ACK,
            Kind::Udp => usize::from(u16::from_be_bytes([transport[4], transport[5]])) == transport.len(),
        }
    }

    fn is_right(self, packet: &[u8]) -> bool {
        let (at, protocol) = packet::checksum_of(self.kind);
        let is_given = packet[self.from + at..self.from + at + 2] != [0, 0];
        let outside = pseudo(packet::addresses(packet), protocol, packet.len() - self.from);
        (is_given || self.kind == Kind::Tcp) && folded(outside + sum(&packet[self.from..])) == 0xffff
    }

    /// Whether nothing may follow this packet.
    fn ends(self, packet: &[u8]) -> bool {
        self.kind == Kind::Tcp && packet[self.from + 13] & (PSH | FIN) != 0
    }

    fn sequence(self, packet: &[u8]) -> u32 {
        let place = &packet[self.from + 4..];
        u32::from_be_bytes([place[0], place[1], place[2], place[3]])
    }
}

impl Piece {
    fn is_of_flow(&self, buffer: &[u8], packet: &[u8], seen: Seen) -> bool {
        let Some(mine) = self.seen else { return false };
        let first = &buffer[self.parts[0].clone()];
        mine.kind == seen.kind
            && first[0] >> 4 == packet[0] >> 4
            && packet::addresses(first) == packet::addresses(packet)
            && first[seen.from..seen.from + 4] == packet[seen.from..seen.from + 4]
    }

    /// Whether the packet, of the same flow, may stand behind what is there.
    fn takes(&self, buffer: &[u8], packet: &[u8], seen: Seen) -> bool {
        let first = &buffer[self.parts[0].clone()];
        let payload = packet.len() - seen.behind;
        let has_room =
            seen.joins && self.parts.len() < MOST && seen.behind + self.payload + payload <= LONGEST;
        !self.is_closed
            && has_room
            && payload <= self.segment
            && self.seen.is_some_and(|mine| mine.behind == seen.behind)
            && self.is_same_way(first, packet)
            && match seen.kind {
                Kind::Tcp => self.is_next(first, packet, seen),
                Kind::Udp => true,
            }
    }

    /// IP's headers are the same but for length, number and checksum; the number is the next where it matters.
    fn is_same_way(&self, first: &[u8], packet: &[u8]) -> bool {
        if packet::is_v6(packet) {
            return first[..4] == packet[..4] && first[7] == packet[7];
        }
        const DONT_FRAGMENT: u8 = 0x40;
        let number = |packet: &[u8]| u16::from_be_bytes([packet[4], packet[5]]);
        let is_next = number(packet) == number(first).wrapping_add(self.parts.len() as u16);
        let is_free = packet[6] & DONT_FRAGMENT != 0;
        first[1] == packet[1] && first[6] == packet[6] && first[8] == packet[8] && (is_next || is_free)
    }

    /// TCP's headers are the same but for sequence number, checksum, PSH and FIN; the number is the next.
    fn is_next(&self, first: &[u8], packet: &[u8], seen: Seen) -> bool {
        let (first, next) = (&first[seen.from..], &packet[seen.from..]);
        let length = seen.behind - seen.from;
        let sequence = Seen { from: 0, ..seen }.sequence(first).wrapping_add(self.payload as u32);
        seen.sequence(packet) == sequence
            && first[8..13] == next[8..13]
            && first[14..16] == next[14..16]
            && first[18..length] == next[18..length]
    }

    fn push(&mut self, packet: &[u8], seen: Seen, range: Range<usize>) {
        let payload = packet.len() - seen.behind;
        self.parts.push(range.start + seen.behind..range.end);
        self.payload += payload;
        self.is_closed = payload < self.segment || seen.ends(packet);
        if seen.kind == Kind::Tcp {
            self.last_flags = packet[seen.from + 13] & (PSH | FIN);
        }
    }

    /// Makes the first packet's headers those of all, and what the kernel is told of them.
    fn complete(&mut self, buffer: &mut [u8]) {
        let Some(seen) = self.seen else {
            self.about = Virtio::default().bytes();
            return;
        };
        if self.parts.len() == 1 {
            self.about = if seen.joins { Virtio::valid() } else { Virtio::default() }.bytes();
            return;
        }
        let length = seen.behind + self.payload;
        let first = &mut buffer[self.parts[0].clone()];
        packet::set_length(first, length);
        let is_v6 = packet::is_v6(first);
        if !is_v6 {
            packet::finish_ipv4(first);
        }
        let (at, protocol) = packet::checksum_of(seen.kind);
        let begun = folded(pseudo(packet::addresses(first), protocol, length - seen.from));
        let transport = &mut first[seen.from..];
        transport[at..at + 2].copy_from_slice(&begun.to_ne_bytes());
        match seen.kind {
            Kind::Tcp => transport[13] |= self.last_flags,
            Kind::Udp => {
                let length = u16::try_from(length - seen.from).unwrap_or(u16::MAX);
                transport[4..6].copy_from_slice(&length.to_be_bytes());
            }
        }
        self.about = Virtio::joined(is_v6, seen.kind, seen.from, seen.behind, self.segment).bytes();
    }
}
