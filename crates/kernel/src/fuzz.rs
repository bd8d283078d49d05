//! Entries for fuzzing what is read from netlink sockets. The kernel is trusted, but its answers grow with every
//! version: an attribute that nobody here knows must not end a plugin.

use crate::channel::{Answer, messages};
use crate::{netfilter, route};

/// Reads `input` as a datagram of rtnetlink: as it is, and as the body of one message of each kind that is read.
pub fn fuzz_route(input: &[u8]) {
    /// `RTM_NEWLINK`, `RTM_NEWADDR`, `RTM_NEWROUTE`, `RTM_NEWRULE`.
    const KINDS: [u16; 4] = [16, 20, 24, 32];
    both(input, &KINDS, route::fuzz);
}

/// The same of nfnetlink: elements of sets, tracked flows.
pub fn fuzz_netfilter(input: &[u8]) {
    /// `NFT_MSG_NEWSETELEM`, `NFT_MSG_NEWRULE`, `NFT_MSG_NEWGEN` and `IPCTNL_MSG_CT_NEW`, behind their subsystems.
    const KINDS: [u16; 4] = [10 << 8 | 12, 10 << 8 | 6, 10 << 8 | 15, 1 << 8];
    both(input, &KINDS, netfilter::fuzz);
}

/// Answers and notifications of rtnetlink about overlays, as they are read there.
#[cfg(feature = "overlay")]
pub fn fuzz_overlay(input: &[u8]) {
    /// `RTM_NEWLINK`, `RTM_DELLINK`, and of addresses, routes and neighbours.
    const KINDS: [u16; 8] = [16, 17, 20, 21, 24, 25, 28, 29];
    both(input, &KINDS, crate::overlay::fuzz);
}

/// Answers of generic netlink about WireGuard.
#[cfg(feature = "overlay")]
pub fn fuzz_wireguard(input: &[u8]) {
    /// The first number that the kernel gives to a family, and that of `nlctrl`.
    const KINDS: [u16; 2] = [17, 16];
    both(input, &KINDS, crate::overlay::fuzz_wireguard);
}

fn both(input: &[u8], kinds: &[u16], read: fn(&[u8])) {
    let visit = |datagram: &[u8]| {
        for incoming in messages(datagram) {
            match incoming.answer {
                Answer::Message(message) => read(message),
                Answer::Ack(Err(refusal)) => drop(refusal.to_string()),
                Answer::Ack(Ok(())) | Answer::Done => {}
            }
        }
    };
    visit(input);
    for kind in kinds {
        visit(&framed(*kind, input));
    }
}

/// A message with a right header.
fn framed(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend([0; 10]);
    message.extend(body);
    message
}
