//! What is done with a request, whichever way it came.

use std::rc::Rc;
use std::sync::Arc;

use crate::forward::{Client, Forwarder, Given, Place, Step, Ticket, relay};
use crate::wire::{Code, Malformed, Question, bare, kind};
use crate::zone::{Outcome, Upstreams, View, render, render_code};

use super::Shared;
use super::room::Asker;

/// What all listeners share.
#[derive(Clone)]
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) forwarder: Rc<Forwarder>,
}

/// Where a reply goes, which limits its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What became of a request.
pub(super) enum Reply {
    /// Nothing is answered.
    None,
    /// The reply's length in the buffer.
    Ready(usize),
    /// Not at once: [`Core::given`] says what is answered.
    Later(Later),
}

/// Whose answer is waited for.
pub(super) enum Later {
    /// Others are asked.
    Outside(Ticket),
    /// A zone of the operator's has the name.
    Zone(Place),
}

impl Transport {
    fn limit(self, question: &Question<'_>) -> usize {
        match self {
            Self::Udp => question.datagram_limit(),
            Self::Tcp => usize::from(u16::MAX),
        }
    }
}

impl Core {
    /// Writes the reply to `request` into `buffer`. `view`: what the client sees; none: it is a stranger.
    pub(super) fn answer(
        &self,
        (view, client): (Option<View<'_>>, Client),
        request: &[u8],
        buffer: &mut [u8],
        transport: Transport,
    ) -> Reply {
        let (length, code) = match Question::parse(request) {
            Ok(question) => match self.decide((view, client), &question, buffer, transport) {
                Ok(reply) => reply,
                Err(later) => return Reply::Later(later),
            },
            Err(Malformed::Silent) => {
                self.shared.counters.malformed.add(1);
                return Reply::None;
            }
            Err(Malformed::Form) => (bare(request, Code::FormErr, buffer), Code::FormErr),
            Err(Malformed::Operation) => (bare(request, Code::NotImp, buffer), Code::NotImp),
        };
        self.shared.counters.answered(code);
        Reply::Ready(length)
    }

    /// The reply's length and code, when it can be said at once.
    pub(super) fn decide(
        &self,
        (view, client): (Option<View<'_>>, Client),
        question: &Question<'_>,
        buffer: &mut [u8],
        transport: Transport,
    ) -> Result<(usize, Code), Later> {
        let limit = transport.limit(question);
        let code = |code, buffer| Ok((render_code(question, code, buffer), code));
        if question.edns.is_some_and(|edns| edns.version != 0) {
            return code(Code::BadVers, buffer);
        }
        let Some(view) = view else {
            self.shared.counters.strangers.add(1);
            return code(Code::Refused, buffer);
        };
        let outcome = match view.own(question) {
            Some(outcome) => outcome,
            None if !self.shared.zones.hold(question.lower.bytes()) => view.outside(question),
            None if question.kind == kind::ANY => Outcome::Any,
            None => match self.forwarder.admit(client) {
                Some(place) => return Err(Later::Zone(place)),
                None => return code(Code::Refused, buffer),
            },
        };
        match outcome {
            Outcome::Forward(upstreams) => self.forward((upstreams, client), question, buffer, limit),
            // The client's number is as good as any to begin the rotation with, and costs nothing to keep.
            outcome => Ok(render(question, &outcome, question.id().into(), buffer, limit)),
        }
    }

    fn forward(
        &self,
        (upstreams, client): (&Upstreams, Client),
        question: &Question<'_>,
        buffer: &mut [u8],
        limit: usize,
    ) -> Result<(usize, Code), Later> {
        // Who does not want others to be asked gets nothing of theirs: what is cached says who asked for what.
        let step = question.wants_recursion().then(|| self.forwarder.step(question, upstreams, client));
        let code = match step {
            Some(Step::Known(given)) => return Ok(relay(question, &given, buffer, limit)),
            Some(Step::Ask(ticket)) => return Err(Later::Outside(ticket)),
            Some(Step::Limited) | None => Code::Refused,
            Some(Step::Failed) => Code::ServFail,
        };
        Ok((render_code(question, code, buffer), code))
    }

    /// What is answered to a request that has to wait.
    pub(super) async fn given(&self, later: Later, request: &[u8], asker: &Asker) -> Given {
        match later {
            Later::Outside(ticket) => ticket.answer().await,
            Later::Zone(place) => {
                self.shared.counters.zone_answers.add(1);
                let Ok(question) = Question::parse(request) else { return Given::failure() };
                let message = self.of_zone(&question, asker, place.client).await;
                message.map_or_else(Given::failure, Given::own)
            }
        }
    }

    /// Writes what was waited for; the reply's length.
    pub(super) fn relay(
        &self,
        request: &[u8],
        given: &Given,
        buffer: &mut [u8],
        transport: Transport,
    ) -> usize {
        let Ok(question) = Question::parse(request) else { return 0 };
        let (length, code) = relay(&question, given, buffer, transport.limit(&question));
        self.shared.counters.answered(code);
        length
    }
}
