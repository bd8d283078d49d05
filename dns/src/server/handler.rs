//! What is done with a request, whichever way it came.

use std::rc::Rc;
use std::sync::Arc;

use crate::forward::{Client, Forwarder, Given, Step, Ticket, relay};
use crate::wire::{Code, Malformed, Question, bare};
use crate::zone::{Outcome, View, render, render_code};

use super::Shared;

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
    /// Others have to be asked first; [`Ticket::answer`] does.
    Later(Ticket),
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
                Err(ticket) => return Reply::Later(ticket),
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

    fn decide(
        &self,
        (view, client): (Option<View<'_>>, Client),
        question: &Question<'_>,
        buffer: &mut [u8],
        transport: Transport,
    ) -> Result<(usize, Code), Ticket> {
        let limit = transport.limit(question);
        let code = match view.map(|view| view.answer(question)) {
            _ if question.edns.is_some_and(|edns| edns.version != 0) => Code::BadVers,
            None => {
                self.shared.counters.strangers.add(1);
                Code::Refused
            }
            // Who does not want others to be asked gets nothing of theirs: what is cached says who asked for what.
            Some(Outcome::Forward(_)) if !question.wants_recursion() => Code::Refused,
            Some(Outcome::Forward(upstreams)) => match self.forwarder.step(question, upstreams, client) {
                Step::Known(given) => return Ok(relay(question, &given, buffer, limit)),
                Step::Ask(ticket) => return Err(ticket),
                Step::Limited => Code::Refused,
                Step::Failed => Code::ServFail,
            },
            // The client's number is as good as any to begin the rotation with, and costs nothing to keep.
            Some(outcome) => return Ok(render(question, &outcome, question.id().into(), buffer, limit)),
        };
        Ok((render_code(question, code, buffer), code))
    }

    /// Writes what others said; the reply's length.
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
