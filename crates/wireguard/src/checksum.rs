//! The Internet checksum (RFC 1071), over native words: the sum does not depend on their order of bytes until it is
//! written down.

/// Added to what other parts gave; every part but the last is an even number of bytes.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    // Four sums that do not wait for each other, which the compiler makes vectors of.
    let mut lanes = [0_u64; 8];
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    let (words, odd) = rest.as_chunks::<2>();
    let tail: u64 = words.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum();
    let last = odd.first().map_or(0, |byte| u64::from(u16::from_ne_bytes([*byte, 0])));
    lanes.iter().sum::<u64>() + tail + last
}

/// What a sum comes to, in native order, not yet inverted.
pub(crate) fn folded(mut sum: u64) -> u16 {
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// The part of TCP's and UDP's sums that is not in the packet: the addresses as they are in it, protocol and length
/// (RFC 9293, 3.1; RFC 8200, 8.1).
pub(crate) fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> u64 {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let rest = [u32::from(protocol).to_be_bytes(), length.to_be_bytes()];
    sum(addresses) + sum(rest.as_flattened())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the RFC has it: byte by byte.
    pub(crate) fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) * 256 + u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    proptest! {
        #[test]
        fn the_sum_is_the_slow_one(bytes in proptest::collection::vec(any::<u8>(), 0..4000), at in 0_usize..2000) {
            prop_assert_eq!(folded(sum(&bytes)).to_ne_bytes(), slow(&bytes).to_be_bytes());
            let (head, tail) = bytes.split_at((at & !1).min(bytes.len() & !1));
            prop_assert_eq!(folded(sum(head) + sum(tail)).to_ne_bytes(), slow(&bytes).to_be_bytes());
        }
    }

    #[test]
    fn the_largest_packet_does_not_overflow() {
        assert_eq!(folded(sum(&[0xff; 65_536])), 0xffff);
    }
}
