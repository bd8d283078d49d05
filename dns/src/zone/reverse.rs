//! Names of addresses: `5.0.88.10.in-addr.arpa` (RFC 1035, 3.5) and `….ip6.arpa` (RFC 3596, 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::wire::{above, labels};

const V4: &[u8] = b"\x07in-addr\x04arpa";
const V6: &[u8] = b"\x03ip6\x04arpa";

/// The addresses below a name in lower case: one for a whole address, more when labels are missing. None for all
/// other names.
pub(super) fn range(name: &[u8]) -> Option<IpNetwork> {
    match above(name, V4) {
        Some(rest) => v4(rest),
        None => v6(above(name, V6)?),
    }
}

fn v4(labels_of_octets: &[u8]) -> Option<IpNetwork> {
    let octets: Vec<u8> = labels(labels_of_octets).map(octet).collect::<Option<_>>()?;
    let length = u8::try_from(octets.len()).ok().filter(|length| (1..=4).contains(length))?;
    let mut address = [0; 4];
    address.iter_mut().zip(octets.into_iter().rev()).for_each(|(place, octet)| *place = octet);
    IpNetwork::new(IpAddr::V4(Ipv4Addr::from(address)), length * 8).ok()
}

fn v6(labels_of_digits: &[u8]) -> Option<IpNetwork> {
    let digits: Vec<u8> = labels(labels_of_digits).map(hex_digit).collect::<Option<_>>()?;
    let length = u8::try_from(digits.len()).ok().filter(|length| (1..=32).contains(length))?;
    let mut address = 0_u128;
    for (place, digit) in digits.into_iter().rev().enumerate() {
        address |= u128::from(digit) << (124 - 4 * place);
    }
    IpNetwork::new(IpAddr::V6(Ipv6Addr::from(address)), length * 4).ok()
}

fn octet(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    // `01` is another name than `1`, and no address's.
    text.parse::<u8>().ok().filter(|octet| octet.to_string() == text)
}

fn hex_digit(label: &[u8]) -> Option<u8> {
    let [digit] = label else { return None };
    char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::wire_name;

    fn check(name: &str, expected: Option<&str>) {
        let found = range(&wire_name(name).unwrap()).map(|range| range.to_string());
        assert_eq!(found.as_deref(), expected, "{name}");
    }

    #[test]
    fn addresses_are_read_backwards() {
        check("5.0.88.10.in-addr.arpa", Some("10.88.0.5/32"));
        check("88.10.in-addr.arpa", Some("10.88.0.0/16"));
        check(
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
            Some("fd00::1/128"),
        );
        check("0.0.d.f.ip6.arpa", Some("fd00::/16"));
    }

    #[test]
    fn other_names_are_no_addresses() {
        for name in
            ["in-addr.arpa", "01.0.88.10.in-addr.arpa", "1.5.0.88.10.in-addr.arpa", "256.in-addr.arpa"]
        {
            check(name, None);
        }
        for name in ["ip6.arpa", "10.ip6.arpa", "g.ip6.arpa", "web", "arpa"] {
            check(name, None);
        }
    }
}
