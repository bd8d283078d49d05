//! Notifications of rtnetlink: whether a link, address or route may be missing now.

use super::encode::OUR_PROTOCOL;

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV4_ROUTE`, `RTNLGRP_IPV6_IFADDR`, `RTNLGRP_IPV6_ROUTE`.
pub(crate) const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// Kinds of messages.
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const DELETE_ADDRESS: u16 = 21;
const DELETE_ROUTE: u16 = 25;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `ifi_family` and `ifi_flags` of `struct ifinfomsg`, `rtm_protocol` of `struct rtmsg`.
const LINK_FAMILY: usize = HEADER;
const LINK_FLAGS: usize = HEADER + 8;
const ROUTE_PROTOCOL: usize = HEADER + 5;
const IFF_UP: u8 = 1;
/// `AF_BRIDGE`: about a port as such.
const AF_BRIDGE: u8 = 7;

/// Whether the message tells of something that may have been ours: what is gone, links that are down, ports that changed.
pub(crate) fn is_loss(message: &[u8]) -> bool {
    let byte = |at: usize| message.get(at).copied().unwrap_or_default();
    match message.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]])) {
        Some(NEW_LINK) => {
            let low = if cfg!(target_endian = "little") { LINK_FLAGS } else { LINK_FLAGS + 3 };
            byte(LINK_FAMILY) == AF_BRIDGE || byte(low) & IFF_UP == 0
        }
        Some(DELETE_LINK | DELETE_ADDRESS) => true,
        Some(DELETE_ROUTE) => byte(ROUTE_PROTOCOL) == u8::from(OUR_PROTOCOL),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: u16, at: usize, value: u8, expected: bool) {
        let mut message = vec![0; 64];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[at] = value;
        assert_eq!(is_loss(&message), expected, "{kind} {at} {value}");
    }

    #[test]
    fn losses_are_told_from_gains() {
        check(NEW_LINK, LINK_FLAGS, IFF_UP, cfg!(target_endian = "big"));
        check(NEW_LINK, LINK_FLAGS, 0, true);
        check(DELETE_LINK, 63, 0, true);
        check(DELETE_ROUTE, ROUTE_PROTOCOL, 122, true);
        check(DELETE_ROUTE, ROUTE_PROTOCOL, 2, false);
        check(20, 63, 0, false);
        assert!(!is_loss(&[]));
    }
}
