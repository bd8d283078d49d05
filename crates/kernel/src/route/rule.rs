//! Routing rules: the message of one, and which there are. The tables' routes: observe.rs.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use zeugma_plan::RuleSpec;

use super::Route;
use super::encode::{OUR_PROTOCOL, Request};
use crate::Error;

/// A routing rule as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleState {
    /// The source addresses; none: any.
    pub from: Option<IpNetwork>,
    /// The table.
    pub table: u32,
    /// Whether it is ours or nobody says whose it is.
    pub is_unclaimed: bool,
    /// Whether it asks for the source address alone.
    pub is_plain: bool,
}

impl RuleState {
    /// Whether it does what `spec` would do.
    pub fn is(&self, spec: &RuleSpec) -> bool {
        self.is_plain && self.from == Some(spec.from) && self.table == spec.table
    }
}

/// The message that adds a rule, with its owner.
pub(super) fn added(spec: &RuleSpec) -> Request {
    let mut message = message(spec);
    message.attributes.push(RuleAttribute::Protocol(OUR_PROTOCOL));
    (RouteNetlinkMessage::NewRule(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// The message that deletes a rule, whoever made it.
pub(super) fn deleted(spec: &RuleSpec) -> Request {
    (RouteNetlinkMessage::DelRule(message(spec)), 0)
}

fn message(spec: &RuleSpec) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if spec.from.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.src_len = spec.from.prefix();
    message.header.action = RuleAction::ToTable;
    message.attributes.push(RuleAttribute::Source(spec.from.network()));
    message.attributes.push(RuleAttribute::Table(spec.table));
    message
}

impl Route {
    /// The rules of both families, in the order in which they are asked.
    pub(crate) fn rules(&mut self) -> Result<Vec<RuleState>, Error> {
        let action = "list routing rules";
        let question = RouteNetlinkMessage::GetRule(RuleMessage::default());
        let answers = self.ask(action, question, NLM_F_DUMP)?;
        let answers = answers.map_err(|refusal| Error::Unanswered { action, refusal })?;
        Ok(answers.into_iter().filter_map(rule_of).collect())
    }
}

fn rule_of(message: RouteNetlinkMessage) -> Option<RuleState> {
    let RouteNetlinkMessage::NewRule(rule) = message else { return None };
    let mut state = RuleState {
        from: None,
        table: rule.header.table.into(),
        is_unclaimed: true,
        is_plain: rule.header.action == RuleAction::ToTable && rule.header.tos == 0,
    };
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Source(address) => state.from = network(*address, rule.header.src_len),
            RuleAttribute::Table(table) => state.table = *table,
            RuleAttribute::Protocol(owner) => {
                state.is_unclaimed = [OUR_PROTOCOL, RouteProtocol::Unspec].contains(owner);
            }
            // Said of every rule; the number says that nothing is suppressed.
            RuleAttribute::Priority(_) | RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            _ => state.is_plain = false,
        }
    }
    Some(state)
}

fn network(address: IpAddr, length: u8) -> Option<IpNetwork> {
    IpNetwork::new(address, length).ok()
}

pub(super) fn fuzz(message: RouteNetlinkMessage) {
    let _ = rule_of(message);
}
