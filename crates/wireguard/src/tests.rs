//! Cutting and joining are each other's reverse.

use std::io::IoSlice;

use proptest::prelude::*;

use crate::join::Joiner;
use crate::packet::{VIRTIO, admit};
use crate::segment::cut;

/// A packet as its sender makes it, byte by byte.
#[derive(Debug, Clone, Copy)]
struct Flow {
    is_v6: bool,
    is_tcp: bool,
    port: u16,
    options: usize,
}

/// The sum of RFC 1071 as it is written there.
fn slow(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.fold(0, |sum, word| (sum + word) % 0xffff);
    if sum == 0 && bytes.iter().any(|byte| *byte != 0) {
        sum = 0xffff;
    }
    sum as u16
}

/// Whether the checksums of a whole packet are right.
fn is_right(packet: &[u8]) -> bool {
    let (from, addresses) = if packet[0] >> 4 == 6 { (40, &packet[8..40]) } else { (20, &packet[12..20]) };
    let protocol = if from == 40 { packet[6] } else { packet[9] };
    let length = (packet.len() - from) as u32;
    let pseudo = [addresses, &length.to_be_bytes(), &[0, 0, 0, protocol], &packet[from..]].concat();
    slow(&pseudo) == 0xffff && (from == 40 || slow(&packet[..20]) == 0xffff)
}

impl Flow {
    fn packet(self, number: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut transport = if self.is_tcp { self.tcp(sequence, flags) } else { self.udp(payload.len()) };
        transport.extend_from_slice(payload);
        let mut packet = self.ip(number, transport.len());
        let from = packet.len();
        let addresses = if self.is_v6 { packet[8..40].to_vec() } else { packet[12..20].to_vec() };
        let rest = [0, 0, 0, if self.is_tcp { 6 } else { 17 }];
        let sum =
            slow(&[&addresses[..], &(transport.len() as u32).to_be_bytes(), &rest, &transport].concat());
        let checksum = if !sum == 0 { 0xffff } else { !sum };
        packet.extend(transport);
        let at = from + if self.is_tcp { 16 } else { 6 };
        packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    fn ip(self, number: u16, length: usize) -> Vec<u8> {
        let protocol = if self.is_tcp { 6 } else { 17 };
        if self.is_v6 {
            let mut header = vec![0x60, 0, 0, 0, (length >> 8) as u8, length as u8, protocol, 64];
            header.extend([[0xfd; 16], [0xfe; 16]].concat());
            return header;
        }
        let [high, low] = ((length + 20) as u16).to_be_bytes();
        let [a, b] = number.to_be_bytes();
        let mut header = vec![0x45, 0, high, low, a, b, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let checksum = !slow(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    fn tcp(self, sequence: u32, flags: u8) -> Vec<u8> {
        let mut header =
            [&self.port.to_be_bytes()[..], &[0, 80], &sequence.to_be_bytes(), &[0, 0, 0, 9]].concat();
        header.extend([((5 + self.options) << 4) as u8, flags, 1, 1, 0, 0, 0, 0]);
        header.extend(std::iter::repeat_n(1, self.options * 4));
        header
    }

    fn udp(self, payload: usize) -> Vec<u8> {
        [&self.port.to_be_bytes()[..], &[0, 53], &((payload + 8) as u16).to_be_bytes(), &[0, 0]].concat()
    }
}

/// What the joiner makes of packets that lie one behind the other: its pieces, headers of virtio in front.
fn joined(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut buffer = packets.concat();
    let mut joiner = Joiner::new(true);
    let mut begin = 0;
    for packet in packets {
        joiner.add(&buffer, begin..begin + packet.len());
        begin += packet.len();
    }
    let mut pieces = Vec::new();
    joiner.finish(&mut buffer, |parts: &[IoSlice<'_>]| {
        pieces.push(parts.iter().flat_map(|part| part.to_vec()).collect());
    });
    pieces
}

fn cut_again(pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for piece in pieces {
        cut(&mut piece.clone(), |packet| packets.push(packet.to_vec())).unwrap();
    }
    packets
}

fn flow() -> impl Strategy<Value = Flow> {
    (any::<bool>(), any::<bool>(), 1_u16..4, 0_usize..4).prop_map(|(is_v6, is_tcp, port, options)| Flow {
        is_v6,
        is_tcp,
        port,
        options,
    })
}

/// Streams of some flows, their packets interleaved: each flow's with sizes and flags of all kinds.
fn packets() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let one = (
        0_usize..3,
        prop_oneof![Just(500_usize), Just(501), 0_usize..900],
        prop_oneof![4 => Just(0x10_u8), 1 => any::<u8>()],
        any::<u8>(),
    );
    (proptest::collection::vec(flow(), 3), proptest::collection::vec(one, 1..60)).prop_map(|(flows, all)| {
        let mut next = [(7_u16, u32::MAX - 5000); 3];
        let mut make = |(which, length, flags, fill): (usize, usize, u8, u8)| {
            let (number, sequence) = next[which];
            next[which] = (number.wrapping_add(1), sequence.wrapping_add(length as u32));
            let payload: Vec<u8> = (0..length).map(|at| fill.wrapping_add(at as u8)).collect();
            flows[which].packet(number, sequence, flags, &payload)
        };
        all.into_iter().map(&mut make).collect()
    })
}

/// By flow: within one, order counts.
fn by_flow(packets: &[Vec<u8>]) -> std::collections::BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows = std::collections::BTreeMap::<_, Vec<_>>::new();
    for packet in packets {
        let (from, protocol) = if packet[0] >> 4 == 6 { (40, packet[6]) } else { (20, packet[9]) };
        flows
            .entry([&packet[from..from + 2], &[protocol, packet[0] >> 4]].concat())
            .or_default()
            .push(packet.clone());
    }
    flows
}

proptest! {
    #[test]
    fn what_is_joined_is_cut_into_the_same_packets(packets in packets()) {
        prop_assert!(packets.iter().all(|packet| is_right(packet)));
        let pieces = joined(&packets);
        prop_assert!(pieces.len() <= packets.len());
        let again = cut_again(&pieces);
        prop_assert!(again.iter().all(|packet| is_right(packet)));
        prop_assert_eq!(by_flow(&again), by_flow(&packets));
    }

    #[test]
    fn nothing_that_the_device_says_is_too_strange(mut piece in proptest::collection::vec(any::<u8>(), 0..200), kind in 0_u8..7, v6: bool) {
        if let Some(byte) = piece.get_mut(1) { *byte = kind; }
        if let Some(byte) = piece.get_mut(VIRTIO) { *byte = if v6 { 0x60 } else { 0x45 }; }
        let _ = cut(&mut piece, |_| {});
    }

    #[test]
    fn nothing_that_a_peer_says_is_too_strange(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 20..90), 1..9), first in prop_oneof![Just(0x45_u8), Just(0x60)]) {
        let packets: Vec<Vec<u8>> = packets.into_iter().map(|mut packet| { packet[0] = first; packet[9] = 6; packet[6] = if first == 0x60 { 17 } else { 0 }; packet }).collect();
        prop_assert_eq!(joined(&packets).len(), packets.len());
    }

    /// However short boringtun cuts it.
    #[test]
    fn what_a_peer_sends_is_admitted_with_its_whole_header_alone(mut packet in proptest::collection::vec(any::<u8>(), 0..90), first in prop_oneof![0x40_u8..0x50, Just(0x60), any::<u8>()], ecn in 0_u8..4) {
        if let Some(byte) = packet.first_mut() { *byte = first; }
        let least = match first >> 4 { 4 if first & 15 >= 5 => usize::from(first & 15) * 4, 6 => 40, _ => usize::MAX };
        let is_admitted = admit(&mut packet, ecn);
        prop_assert!(!is_admitted || packet.len() >= least);
        prop_assert!(is_admitted || packet.len() < least || ecn == 3);
        if is_admitted { prop_assert_eq!(joined(&[packet]).len(), 1); }
    }
}

#[test]
fn a_stream_is_one_piece_and_a_damaged_packet_stands_alone() {
    let flow = Flow { is_v6: false, is_tcp: true, port: 5, options: 3 };
    let packet = |index: u16| flow.packet(index, u32::from(index) * 1000, 0x10, &[index as u8; 1000]);
    let mut packets: Vec<_> = (0..40).map(packet).collect();
    assert_eq!(joined(&packets).len(), 1);
    packets[20][500] ^= 1;
    let pieces = joined(&packets);
    assert_eq!(pieces.len(), 3);
    // Neither joined nor said to be right.
    assert_eq!(pieces[1][..VIRTIO], [0; VIRTIO]);
    assert_eq!(pieces[1][VIRTIO..], packets[20]);
}

#[test]
fn urgent_and_last_packets_end_a_piece() {
    let flow = Flow { is_v6: true, is_tcp: true, port: 5, options: 0 };
    let flags = [0x10, 0x18, 0x10, 0x11, 0x10, 0x14, 0x10];
    let packets: Vec<_> =
        (0..).zip(flags).map(|(at, flags)| flow.packet(0, at * 10, flags, &[1; 10])).collect();
    // Data with PSH; data with FIN; data; RST; data.
    assert_eq!(joined(&packets).len(), 5);
}
