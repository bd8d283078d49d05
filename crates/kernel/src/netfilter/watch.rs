//! Notifications of nfnetlink: whether somebody else took something out of our tables, or put a rule into them.

use std::ops::BitOrAssign;

use zeugma_model::PLUGINS;

use super::attributes::attribute;
use super::table::{OF_TABLE, of_our_table, text};
use super::uapi::NEW_RULE;
use super::{HEADERS, SUBSYSTEM};

/// `NFNLGRP_NFTABLES`.
pub(crate) const GROUP: u32 = 7;
/// `enum nf_tables_msg_types`.
const DELETE_TABLE: u8 = 2;
const DELETE_CHAIN: u8 = 5;
const DELETE_RULE: u8 = 8;
const DELETE_SET: u8 = 11;
const DELETE_ELEMENTS: u8 = 14;
const NEW_GENERATION: u8 = 15;
/// `NFTA_GEN_PROC_NAME`.
const PROCESS_NAME: u16 = 3;

/// What was touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// The tables that the journal asks for.
    pub(crate) ours: bool,
    /// The table of services.
    pub(crate) services: bool,
}

impl BitOrAssign for Touched {
    fn bitor_assign(&mut self, other: Self) {
        self.ours |= other.ours;
        self.services |= other.services;
    }
}

/// Reads transactions: first what they change, at last whose they are.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    touched: Touched,
}

impl Transactions {
    /// Takes the next message; with the one that ends a transaction of somebody else, what that touched.
    pub(crate) fn read(&mut self, message: &[u8]) -> Touched {
        let [kind, subsystem] = match message.get(4..6) {
            Some([kind, subsystem]) => [*kind, *subsystem],
            _ => return Touched::default(),
        };
        if u16::from(subsystem) != SUBSYSTEM {
            return Touched::default();
        }
        match kind {
            NEW_GENERATION => {
                let touched = std::mem::take(&mut self.touched);
                if is_by_us(message) { Touched::default() } else { touched }
            }
            DELETE_TABLE | DELETE_CHAIN | NEW_RULE | DELETE_RULE | DELETE_SET | DELETE_ELEMENTS => {
                let services = is_of_services(message);
                self.touched |= Touched { ours: of_our_table(message).is_some(), services };
                Touched::default()
            }
            _ => Touched::default(),
        }
    }
}

fn is_of_services(message: &[u8]) -> bool {
    let table = message.get(HEADERS..).and_then(|body| text(body, OF_TABLE));
    table == Some(zeugma_plan::nft::services::TABLE)
}

/// A process is known by its name alone, as it may be gone. One that took ours in vain is found out by the comparison
/// that is made from time to time.
fn is_by_us(generation: &[u8]) -> bool {
    let body = generation.get(HEADERS..).unwrap_or_default();
    let name = attribute(body, PROCESS_NAME).and_then(|_| text(body, PROCESS_NAME));
    name.is_some_and(|name| name.starts_with("zeugma") || PLUGINS.contains(&name))
}

/// Whatever is sent to the group.
pub(crate) fn fuzz(message: &[u8]) {
    let mut transactions = Transactions::default();
    let _ = (transactions.read(message), transactions.read(message));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, attribute: u16, value: &str) -> Vec<u8> {
        let mut bytes = vec![0; HEADERS];
        (bytes[4], bytes[5]) = (kind, 10);
        bytes.extend((4 + value.len() as u16 + 1).to_ne_bytes());
        bytes.extend(attribute.to_ne_bytes());
        bytes.extend(value.as_bytes());
        bytes.push(0);
        bytes
    }

    fn check(table: &str, kind: u8, process: &str, expected: bool) {
        let mut transactions = Transactions::default();
        assert_eq!(transactions.read(&message(kind, 1, table)), Touched::default());
        let end = message(NEW_GENERATION, PROCESS_NAME, process);
        let services = table == "zeugma_services";
        let expected = Touched { ours: expected && !services, services: expected && services };
        assert_eq!(transactions.read(&end), expected, "{table} {kind} {process}");
        assert_eq!(transactions.read(&end), Touched::default());
    }

    #[test]
    fn what_others_take_from_our_table_is_told() {
        check("zeugma", DELETE_TABLE, "nft", true);
        check("zeugma", DELETE_ELEMENTS, "firewalld", true);
        check("zeugma_services", DELETE_TABLE, "nft", true);
        check("zeugma_services", DELETE_ELEMENTS, "zeugma-services", false);
        check("zeugma", DELETE_ELEMENTS, "portmap", false);
        check("zeugma", NEW_RULE, "zeugma", false);
        check("firewalld", DELETE_TABLE, "nft", false);
        check("zeugma", 12, "nft", false);
    }
}
