//! The entry for fuzzing names and numbers that come from outside.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use crate::{
    Alias, AttachmentId, ContainerId, HostAddress, IfName, Mac, NetworkName, Protocol, VlanId, VlanRange,
};

/// Reads `input` as everything that has a textual form. What could be read is written and read again; names that
/// are made of it have room where they go.
pub fn fuzz_names(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut words = text.splitn(3, ' ');
    let (one, two, three) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    round_trip::<Mac>(one);
    round_trip::<Alias>(one);
    round_trip::<Protocol>(one);
    if let (Some(network), Some(container), Some(ifname)) =
        (round_trip::<NetworkName>(one), round_trip::<ContainerId>(two), round_trip::<IfName>(three))
    {
        let id = AttachmentId { network, container, ifname };
        assert!(id.host_veth().as_str().len() < 16, "{id}");
        assert!((1..128).contains(&id.owner().len()), "{id}");
    }
    if let Ok(address) = one.parse::<IpAddr>() {
        let again = match HostAddress::from_ip(Some(address)) {
            HostAddress::One(one) => HostAddress::from_ip(Some(one)),
            any => any,
        };
        assert_eq!(again, HostAddress::from_ip(Some(address)));
    }
    ranges(input);
}

/// Pairs of bytes as VLANs; merged ranges hold what the ranges held.
fn ranges(input: &[u8]) {
    let ids: Vec<VlanId> = input
        .chunks_exact(2)
        .filter_map(|pair| VlanId::new(u16::from_ne_bytes([pair[0], pair[1]]).into()))
        .collect();
    let ranges: Vec<VlanRange> =
        ids.chunks_exact(2).filter_map(|ends| VlanRange::new(ends[0], ends[1])).collect();
    let merged = VlanRange::merged(ranges.clone());
    assert!(merged.len() <= ranges.len());
    for id in ids {
        let held = |ranges: &[VlanRange]| ranges.iter().any(|range| range.contains(id));
        assert_eq!(held(&ranges), held(&merged), "{id}");
    }
}

fn round_trip<T: FromStr<Err: Display> + Display>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            let written = value.to_string();
            let again = written.parse::<T>().map(|again| again.to_string());
            assert_eq!(again.ok().as_deref(), Some(written.as_str()), "{text:?}");
            Some(value)
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}
