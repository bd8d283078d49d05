//! IPv4 and UDP headers around a DHCP message: a client without an address cannot use the kernel's.

use std::net::Ipv4Addr;

use dhcproto::v4::{CLIENT_PORT, SERVER_PORT};

const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const UDP: u8 = 17;
const TTL: u8 = 64;

/// The IPv4 packet that carries `payload` from the client's port to the server's.
pub(crate) fn packet(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let udp_length = length(UDP_HEADER + payload.len());
    let mut udp = Vec::with_capacity(usize::from(udp_length));
    udp.extend(CLIENT_PORT.to_be_bytes());
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(udp_length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let mut pseudo = [source.octets(), destination.octets()].concat();
    pseudo.extend([0, UDP]);
    pseudo.extend(udp_length.to_be_bytes());
    // RFC 768: zero means "no checksum", so a sum of zero is sent as its other form.
    let sum = Some(checksum(&[&pseudo, &udp])).filter(|sum| *sum != 0).unwrap_or(u16::MAX);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut packet = ip_header(source, destination, udp.len());
    packet.append(&mut udp);
    packet
}

fn ip_header(source: Ipv4Addr, destination: Ipv4Addr, payload: usize) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(length(IP_HEADER + payload).to_be_bytes());
    // Identification 0 goes with "don't fragment" (RFC 6864).
    header.extend([0, 0, 0x40, 0, TTL, UDP, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("options are limited to 255 bytes each and to a few")
}

/// What a server sent to the client's port; none for every other packet.
///
/// The UDP checksum is not verified: between namespaces of one kernel it is not filled in. A reply has to have
/// the transaction's number and the client's address besides.
pub(crate) fn payload(packet: &[u8]) -> Option<&[u8]> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let total = usize::from(u16_at(packet, 2)?);
    let is_ipv4 = packet[0] >> 4 == 4 && header >= IP_HEADER;
    let is_whole = u16_at(packet, 6)? & 0x3fff == 0;
    if !is_ipv4 || !is_whole || *packet.get(9)? != UDP {
        return None;
    }
    let udp = packet.get(header..total)?;
    let length = usize::from(u16_at(udp, 4)?);
    let is_for_us = u16_at(udp, 0)? == SERVER_PORT && u16_at(udp, 2)? == CLIENT_PORT;
    if is_for_us { udp.get(UDP_HEADER..length) } else { None }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// RFC 1071, over parts of which only the last may be odd.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 =
        words.map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turned_round(mut packet: Vec<u8>) -> Vec<u8> {
        for (a, b) in [(20, 22), (21, 23)] {
            packet.swap(a, b);
        }
        packet
    }

    #[test]
    fn checksums_add_up_to_nothing() {
        let packet = packet(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, b"odd");
        assert_eq!(checksum(&[&packet[..IP_HEADER]]), 0);
        let mut pseudo = packet[12..20].to_vec();
        pseudo.extend([0, UDP, 0, 11]);
        assert_eq!(checksum(&[&pseudo, &packet[IP_HEADER..]]), 0);
    }

    #[test]
    fn only_what_a_server_sends_to_a_client_is_read() {
        let sent = packet([10, 0, 0, 1].into(), [10, 0, 0, 9].into(), b"reply");
        assert_eq!(payload(&sent), None);
        assert_eq!(payload(&turned_round(sent)), Some(&b"reply"[..]));
    }

    proptest! {
        #[test]
        fn damaged_packets_are_not_read_beyond_their_end(at in 0usize..64, byte: u8, cut in 0usize..80) {
            let mut packet = turned_round(packet([10, 0, 0, 1].into(), [10, 0, 0, 9].into(), &[7; 40]));
            if let Some(place) = packet.get_mut(at) { *place = byte; }
            packet.truncate(cut);
            if let Some(read) = payload(&packet) { prop_assert!(read.len() <= 40); }
        }
    }
}
