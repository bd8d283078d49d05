//! The table inside a container that leads questions to its resolver: port 53 of one address, and nothing else.

use std::net::{Ipv4Addr, SocketAddrV4};

use ipnetwork::IpNetwork;
use zeugma_model::Protocol;

use super::{Action, Chain, Hook, Match, Rule, Ruleset, TableFamily};
use crate::Family;

/// Its name: not that of our table on the host, which a container of containers may have, too.
pub const NAMES_TABLE: &str = "zeugma_resolver";

/// Where containers ask, as Docker has it. It is the loopback interface's, as all of 127.0.0.0/8 is.
const ASKED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Questions to port 53 of 127.0.0.11 arrive at `port` there. The port 53 of all other addresses stays the container's,
/// and the kernel gives answers the address and port that were asked.
pub fn names_table(port: u16) -> Ruleset {
    let output = Hook { kind: "nat", name: "output", number: 3, priority: -100 };
    let rules = [Protocol::Udp, Protocol::Tcp].map(|protocol| Rule {
        matches: vec![
            Match::Family(Family::V4),
            Match::DaddrIn(IpNetwork::from(std::net::IpAddr::from(ASKED))),
            Match::Transport(protocol),
            Match::Dport(53),
        ],
        action: Action::DnatTo(SocketAddrV4::new(ASKED, port)),
    });
    Ruleset {
        family: TableFamily::Inet,
        table: NAMES_TABLE,
        stamp: "zeugma resolver 1",
        sets: Vec::new(),
        chains: vec![Chain { name: "output", hook: Some(output), rules: rules.into() }],
    }
}
