//! rtnetlink: links, addresses, routes and rules of one namespace.

mod encode;
mod held;
mod observe;
mod routes;
mod rule;
mod shape;
mod shaped;
mod vlan;
pub(crate) mod watch;

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use zeugma_model::IfName;

use crate::channel::{Answer, Channel};
use crate::{Error, Refusal};

#[cfg(feature = "overlay")]
pub(crate) use encode::{RT_TABLE_MAIN, address_message, no_ipv6_of_its_own, route_address};
pub(crate) use encode::{Request, requests};
pub use observe::{BridgeVlans, LinkState};
#[cfg(feature = "overlay")]
pub(crate) use observe::{address_of, default_route};
pub use routes::RouteState;
#[cfg(feature = "overlay")]
pub(crate) use routes::ip;
pub use rule::RuleState;

/// A request's flags besides `NLM_F_REQUEST`.
pub(crate) type Flags = u16;

/// An rtnetlink socket, and the indexes it has learned.
pub(crate) struct Route {
    channel: Channel,
    indexes: HashMap<IfName, u32>,
    /// Files that requests not yet sent name by their number.
    kept: Vec<OwnedFd>,
}

/// What became of a batch: positions as they were handed in.
pub(crate) struct Outcome {
    pub(crate) done: Vec<usize>,
    pub(crate) failed: Vec<(usize, Refusal)>,
}

impl Route {
    pub(crate) fn open() -> Result<Self, Error> {
        let channel = Channel::open(NETLINK_ROUTE)
            .map_err(|source| Error::System { action: "open an rtnetlink socket", source })?;
        // Dumps can then be narrowed to one link. Kernels before 4.20 do not know it and send everything.
        let _ = channel.socket().set_netlink_get_strict_chk(true);
        Ok(Self { channel, indexes: HashMap::new(), kept: Vec::new() })
    }

    /// Sends all messages as one datagram and gathers what failed; the kernel works through all of them.
    pub(crate) fn transact(
        &mut self,
        batch: Vec<(usize, RouteNetlinkMessage, Flags)>,
    ) -> Result<Outcome, Error> {
        let Some(last) = batch.len().checked_sub(1) else {
            return Ok(Outcome { done: Vec::new(), failed: Vec::new() });
        };
        let mut positions = Vec::with_capacity(batch.len());
        let mut last_sequence = 0;
        for (index, (position, message, flags)) in batch.into_iter().enumerate() {
            let start = self.channel.pending();
            last_sequence = self.channel.push(NetlinkMessage::from(message), flags);
            positions.push((last_sequence, position));
            if index == last {
                self.channel.want_ack(start);
            }
        }
        let refused = self.collect(last_sequence)?;
        self.kept.clear();
        Ok(outcome(&positions, &refused))
    }

    /// The cookie of the namespace that the socket is in.
    pub(crate) fn cookie(&self) -> Option<u64> {
        crate::sys::netns_cookie(self.channel.socket().as_raw_fd())
    }

    /// Keeps a file open until the next batch is answered.
    pub(crate) fn keep(&mut self, file: OwnedFd) {
        self.kept.push(file);
    }

    /// Refusals by sequence number, until the last request is answered.
    fn collect(&mut self, last: u32) -> Result<Vec<(u32, Refusal)>, Error> {
        let mut refused = Vec::new();
        let io = |source| Error::System { action: "talk to rtnetlink", source };
        self.channel.flush().map_err(io)?;
        self.channel
            .receive(|incoming| {
                if let Answer::Ack(Err(refusal)) = incoming.answer {
                    refused.push((incoming.sequence, refusal));
                }
                incoming.sequence == last
            })
            .map_err(io)?;
        Ok(refused)
    }

    /// Asks one question; the answers are decoded. A dump ends by itself.
    pub(crate) fn ask(
        &mut self,
        action: &'static str,
        question: RouteNetlinkMessage,
        flags: Flags,
    ) -> Result<Result<Vec<RouteNetlinkMessage>, Refusal>, Error> {
        let is_dump = flags & netlink_packet_core::NLM_F_DUMP == netlink_packet_core::NLM_F_DUMP;
        let sequence = self.channel.push(NetlinkMessage::from(question), flags);
        let (mut answers, mut undecoded) = (Vec::new(), None);
        let refused = self.channel.answers(sequence, |bytes| {
            match decode(bytes) {
                Ok(message) => answers.extend(message),
                Err(detail) => undecoded = Some(detail),
            }
            !is_dump
        });
        let refused = refused.map_err(|source| Error::System { action, source })?;
        match undecoded {
            Some(detail) => Err(Error::Reply { action, detail }),
            None => Ok(refused.map_or(Ok(answers), Err)),
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Option<RouteNetlinkMessage>, String> {
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
        Ok(NetlinkMessage { payload: NetlinkPayload::InnerMessage(message), .. }) => Ok(Some(message)),
        Ok(_) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Everything that is read out of an answer.
pub(crate) fn fuzz(message: &[u8]) {
    if let Ok(Some(message)) = decode(message) {
        observe::fuzz(&message);
        rule::fuzz(message.clone());
        vlan::fuzz(message);
    }
}

/// A position needs undoing when the first of its messages was carried out: that is the one which makes things.
fn outcome(positions: &[(u32, usize)], refused: &[(u32, Refusal)]) -> Outcome {
    let refusal_of = |sequence: u32| refused.iter().find(|(number, _)| *number == sequence);
    let failure = |(sequence, position): &(u32, usize)| Some((*position, refusal_of(*sequence)?.1.clone()));
    let failed = positions.iter().filter_map(failure).collect();
    let mut done = Vec::new();
    for of_step in positions.chunk_by(|a, b| a.1 == b.1) {
        let (first, position) = of_step[0];
        if refusal_of(first).is_none() {
            done.push(position);
        }
    }
    Outcome { done, failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_was_made_but_not_marked_is_to_be_undone() {
        let refusal = Refusal { errno: libc::EPERM, reason: None };
        let outcome = outcome(&[(1, 0), (2, 0), (3, 1)], &[(2, refusal.clone()), (3, refusal.clone())]);
        assert_eq!(outcome.done, [0]);
        assert_eq!(outcome.failed, [(0, refusal.clone()), (1, refusal)]);
    }

    #[test]
    fn a_link_that_was_not_made_is_left_alone() {
        let refusal = Refusal { errno: libc::EEXIST, reason: None };
        let outcome = outcome(&[(1, 0), (2, 0)], &[(1, refusal)]);
        assert!(outcome.done.is_empty());
    }
}
