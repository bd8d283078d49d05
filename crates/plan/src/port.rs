//! Which published ports exclude one another: the rules of bind(2).

use std::net::IpAddr;

use zeugma_model::HostAddress;

use crate::Family;

/// The addresses to put into elements: none stands for any address of the family.
///
/// A port without `hostIP` is published in every family that the container has an address of.
pub fn any_addresses(host: HostAddress) -> Vec<(Family, Option<IpAddr>)> {
    match host {
        HostAddress::Any => vec![(Family::V4, None), (Family::V6, None)],
        HostAddress::AnyV4 => vec![(Family::V4, None)],
        HostAddress::AnyV6 => vec![(Family::V6, None)],
        HostAddress::One(address) => vec![(Family::of(address), Some(address))],
    }
}

/// Whether two claims of the same protocol and port are in each other's way: same family, and the same
/// address or one of them any.
pub fn claim_conflicts(one: (Family, Option<IpAddr>), other: (Family, Option<IpAddr>)) -> bool {
    one.0 == other.0 && (one.1.is_none() || other.1.is_none() || one.1 == other.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(one: &str, other: &str, expected: bool) {
        let claim = |text: &str| match text {
            "0.0.0.0" => (Family::V4, None),
            "::" => (Family::V6, None),
            one => {
                let address: IpAddr = one.parse().unwrap();
                (Family::of(address), Some(address))
            }
        };
        assert_eq!(claim_conflicts(claim(one), claim(other)), expected, "{one} {other}");
        assert_eq!(claim_conflicts(claim(other), claim(one)), expected, "{other} {one}");
    }

    #[test]
    fn claims_conflict_as_bind_has_it() {
        check("0.0.0.0", "0.0.0.0", true);
        check("0.0.0.0", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("::", "0.0.0.0", false);
        check("::", "2001:db8::1", true);
        check("2001:db8::1", "192.0.2.1", false);
    }
}
