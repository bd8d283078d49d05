//! The decisions, as values; what the reference's own tests promise, and properties.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn set(ranges: serde_json::Value) -> Result<RangeSet, RangeError> {
    serde_json::from_value::<Vec<RangeRaw>>(ranges).unwrap().try_into()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[track_caller]
fn check_order(ranges: serde_json::Value, last: Option<&str>, expected: &[&str]) {
    let set = set(ranges).unwrap();
    let order: Vec<String> = set.candidates(last.map(ip)).map(|next| next.address.to_string()).collect();
    assert_eq!(order, expected);
}

#[test]
fn round_robin_goes_through_every_address_once_and_skips_the_gateway() {
    let small = json!([{"subnet": "192.168.1.0/29"}]);
    let all = ["192.168.1.2/29", "192.168.1.3/29", "192.168.1.4/29", "192.168.1.5/29", "192.168.1.6/29"];
    check_order(small.clone(), None, &all);
    check_order(small.clone(), Some("192.168.1.6"), &all);
    check_order(small.clone(), Some("10.0.0.1"), &all);
    check_order(small, Some("192.168.1.3"), &[all[2], all[3], all[4], all[0], all[1]]);
    check_order(json!([{"subnet": "fd00::/126"}]), None, &["fd00::2/126", "fd00::3/126"]);
}

#[test]
fn ranges_of_a_set_are_alternatives_in_order() {
    let two = json!([
        {"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.10", "rangeEnd": "10.0.0.11"},
        {"subnet": "10.0.1.0/29", "rangeStart": "10.0.1.4", "gateway": "10.0.1.5"}
    ]);
    check_order(two.clone(), None, &["10.0.0.10/24", "10.0.0.11/24", "10.0.1.4/29", "10.0.1.6/29"]);
    check_order(two, Some("10.0.0.11"), &["10.0.1.4/29", "10.0.1.6/29", "10.0.0.10/24", "10.0.0.11/24"]);
}

#[test]
fn large_ranges_cost_nothing() {
    let huge = set(json!([{"subnet": "::/0", "rangeStart": "::"}])).unwrap();
    assert_eq!(huge.first_free(None, |_| false).unwrap().address.ip(), ip("::"));
    assert_eq!(huge.first_free(Some(ip("ffff::")), |_| false).unwrap().address.ip(), ip("ffff::1"));
    let whole = set(json!([{"subnet": "0.0.0.0/0", "rangeEnd": "255.255.255.255"}])).unwrap();
    assert_eq!(whole.first_free(Some(ip("255.255.255.255")), |_| false).unwrap().address.ip(), ip("0.0.0.2"));
}

#[test]
fn nonsense_is_refused_with_its_cause() {
    let refused = |ranges| set(ranges).unwrap_err();
    assert_eq!(refused(json!([])), RangeError::EmptySet);
    assert_eq!(refused(json!([{}])), RangeError::NoSubnet);
    assert!(matches!(refused(json!([{"subnet": "10.0.0.0/31"}])), RangeError::TooSmall { .. }));
    assert!(matches!(refused(json!([{"subnet": "10.0.0.1/24"}])), RangeError::HostBits { .. }));
    for (start, end) in [
        ("10.0.1.0", "10.0.0.9"),
        ("10.0.0.9", "10.0.0.8"),
        ("10.0.0.9", "10.0.1.1"),
        ("10.0.0.255", ""),
        ("fd00::1", ""),
    ] {
        let outside = refused(json!([{"subnet": "10.0.0.0/24", "rangeStart": start, "rangeEnd": end}]));
        assert!(matches!(outside, RangeError::Outside { .. }), "{start}-{end}");
    }
    let mixed = refused(json!([{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]));
    assert_eq!(mixed, RangeError::MixedFamilies);
    let overlap =
        refused(json!([{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.0.0/16", "rangeEnd": "10.0.0.5"}]));
    assert!(matches!(overlap, RangeError::Overlap { .. }));
}

#[test]
fn each_set_serves_one_requested_address() {
    let sets =
        [set(json!([{"subnet": "10.0.0.0/24"}])).unwrap(), set(json!([{"subnet": "fd00::/64"}])).unwrap()];
    let requested = |texts: &[&str]| assigned(&sets, &texts.iter().map(|text| ip(text)).collect::<Vec<_>>());
    assert_eq!(requested(&["fd00::9"]), Ok(vec![None, Some(ip("fd00::9"))]));
    assert_eq!(requested(&["10.0.0.9", "10.0.0.9"]), Ok(vec![Some(ip("10.0.0.9")), None]));
    assert_eq!(requested(&["10.0.0.9", "10.0.0.10"]), Err(vec![ip("10.0.0.10")]));
    assert_eq!(requested(&["10.9.0.9"]), Err(vec![ip("10.9.0.9")]));
}

/// The same small set in IPv4 and IPv6; `offset` is counted from the subnet's first address.
fn twin(v6: bool, start: u8, end: u8, gateway: u8) -> Option<RangeSet> {
    let (subnet, at) = if v6 { ("fd00::/120", "fd00::") } else { ("10.0.0.0/24", "10.0.0.") };
    let text = |offset: u8| {
        if v6 { format!("{at}{offset:x}") } else { format!("{at}{offset}") }
    };
    set(json!([{"subnet": subnet, "rangeStart": text(start), "rangeEnd": text(end), "gateway": text(gateway)}])).ok()
}

fn last_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    }
}

proptest! {
    #[test]
    fn both_families_give_the_same_order(start: u8, end: u8, gateway: u8, last: u8) {
        let order = |v6| twin(v6, start, end, gateway).map(|set| {
            let last = set.candidates(None).find(|next| last_byte(next.address.ip()) == last);
            set.candidates(last.map(|next| next.address.ip())).map(|next| last_byte(next.address.ip())).collect::<Vec<_>>()
        });
        prop_assert_eq!(order(false), order(true));
    }

    #[test]
    fn nothing_is_handed_out_twice_and_the_pool_is_used_up(steps in proptest::collection::vec(any::<Option<u8>>(), 1..200)) {
        let set = twin(true, 2, 20, 5).unwrap();
        let (mut taken, mut last) = (BTreeSet::new(), None);
        for step in steps {
            match step {
                Some(release) => { taken.retain(|&address: &IpAddr| last_byte(address) != release % 24); }
                None => match set.first_free(last, |address| taken.contains(&address)) {
                    Some(next) => { last = Some(next.address.ip()); prop_assert!(taken.insert(next.address.ip())); }
                    None => prop_assert_eq!(taken.len(), 18),
                },
            }
            prop_assert!(!taken.contains(&ip("fd00::5")));
        }
    }
}
