//! Cuts what the TUN device hands over in one piece into packets as the wire has them; the kernel would do so for a
//! network card that cannot (`skb_segment`). In place: each header is written over what has been handed on already.

use crate::packet::{self, Kind, Malformed, VIRTIO, Virtio};

/// The longest headers: IPv6 with some of its options, TCP with all of its.
const HEADERS: usize = 256;

const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// Hands on every packet of `piece`, a [`Virtio`] and what it describes, whole and with all checksums.
pub(crate) fn cut(piece: &mut [u8], mut hand_on: impl FnMut(&[u8])) -> Result<(), Malformed> {
    let (header, packet) = piece.split_first_chunk_mut::<VIRTIO>().ok_or(Malformed)?;
    let about = Virtio::read(header);
    if packet.len() < if packet::is_v6(packet) { 40 } else { 20 } {
        return Err(Malformed);
    }
    let (from, at) = (usize::from(about.checksum_from), usize::from(about.checksum_at));
    match about.segments()? {
        Some(kind) => segments(packet, &Segments::of(packet, kind, about)?, hand_on),
        None => {
            if about.needs_checksum() {
                packet::finish_begun(packet, from, at)?;
            }
            hand_on(packet);
        }
    }
    Ok(())
}

/// How a piece is to be cut.
struct Segments {
    kind: Kind,
    /// Where the transport's header begins.
    from: usize,
    /// Where the payload does.
    behind: usize,
    /// Bytes of payload in each but the last.
    payload: usize,
}

impl Segments {
    /// What the kernel says of the headers' length is the whole packet's where it is forwarded: the headers know.
    fn of(packet: &[u8], kind: Kind, about: Virtio) -> Result<Self, Malformed> {
        let from = usize::from(about.checksum_from);
        let transport = match kind {
            Kind::Tcp => usize::from(packet.get(from + 12).ok_or(Malformed)? >> 4) * 4,
            Kind::Udp => 8,
        };
        let behind = from + transport;
        let least = if packet::is_v6(packet) { 40 } else { 20 };
        let is_whole = from >= least && transport >= 8 && behind < packet.len() && behind <= HEADERS;
        let is_tcp_whole = kind == Kind::Udp || transport >= 20;
        if !is_whole || !is_tcp_whole || about.segment == 0 {
            return Err(Malformed);
        }
        Ok(Self { kind, from, behind, payload: about.segment.into() })
    }
}

fn segments(packet: &mut [u8], how: &Segments, mut hand_on: impl FnMut(&[u8])) {
    let mut kept = [0; HEADERS];
    let headers = &mut kept[..how.behind];
    headers.copy_from_slice(&packet[..how.behind]);
    let all = packet.len() - how.behind;
    for (index, begin) in (0..all).step_by(how.payload).enumerate() {
        let end = all.min(begin + how.payload);
        let segment = &mut packet[begin..how.behind + end];
        segment[..how.behind].copy_from_slice(headers);
        renumber(segment, how, index, end == all);
        packet::finish_transport(segment, how.from, how.kind);
        hand_on(segment);
    }
}

/// Makes copied headers those of segment `index`, but for the transport's checksum.
fn renumber(segment: &mut [u8], how: &Segments, index: usize, is_last: bool) {
    let length = segment.len();
    packet::set_length(segment, length);
    if !packet::is_v6(segment) {
        let number = u16::from_be_bytes([segment[4], segment[5]]).wrapping_add(index as u16);
        segment[4..6].copy_from_slice(&number.to_be_bytes());
        packet::finish_ipv4(segment);
    }
    let transport = &mut segment[how.from..];
    match how.kind {
        Kind::Udp => {
            let length = u16::try_from(transport.len()).unwrap_or(u16::MAX);
            transport[4..6].copy_from_slice(&length.to_be_bytes());
        }
        Kind::Tcp => {
            let [a, b, c, d] = [transport[4], transport[5], transport[6], transport[7]];
            let number = u32::from_be_bytes([a, b, c, d]).wrapping_add((index * how.payload) as u32);
            transport[4..8].copy_from_slice(&number.to_be_bytes());
            if !is_last {
                transport[13] &= !FIN_PSH;
            }
            if index > 0 {
                transport[13] &= !CWR;
            }
        }
    }
}
