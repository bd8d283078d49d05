//! DHCP as RFC 2131 has it for clients, without I/O: what to send and what was granted, as values.
//!
//! Time and randomness are arguments ([`Moment`]); sockets, namespaces and files are the daemon's. The wire is
//! dhcproto's, behind `message` and `reply`. DHCPv6 is not here.

mod client;
mod frame;
mod message;
mod reply;
mod terms;

pub use client::{Client, Effect, Lease, Loss, Moment, Outgoing, Pacing};
pub use message::{Identity, Provided};
pub use terms::Terms;

/// Fuzz target: any bytes as an IPv4 packet, as a DHCP reply, and as the lease that comes of it.
pub fn fuzz_dhcp_reply(bytes: &[u8]) {
    let payloads = [Some(bytes), frame::payload(bytes)];
    for reply in payloads.into_iter().flatten().filter_map(reply::Reply::parse) {
        if let Some(terms) = &reply.terms {
            assert!(terms.renew < terms.rebind && terms.rebind < terms.lease, "{terms:?}");
            let _ = terms.result();
        }
    }
}
