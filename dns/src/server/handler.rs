//! What is done with a request, whichever way it came.

use std::net::IpAddr;

use crate::wire::{Code, Malformed, Question, bare};
use crate::zone::{Audience, Outcome, Snapshot, render, render_code};

use super::stats::Counters;

/// Who sent a request, and through which listener.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) audience: &'a Audience,
    pub(super) source: IpAddr,
}

/// Writes the reply to `request` into `buffer` and returns its length; 0: there is none.
pub(super) fn answer(
    counters: &Counters,
    snapshot: &Snapshot,
    asker: Asker<'_>,
    request: &[u8],
    buffer: &mut [u8],
) -> usize {
    let (length, code) = match Question::parse(request) {
        Ok(question) => answer_question(snapshot, asker, &question, buffer),
        Err(Malformed::Silent) => {
            counters.malformed.add(1);
            return 0;
        }
        Err(Malformed::Form) => (bare(request, Code::FormErr, buffer), Code::FormErr),
        Err(Malformed::Operation) => (bare(request, Code::NotImp, buffer), Code::NotImp),
    };
    counters.answered(code);
    length
}

fn answer_question(
    snapshot: &Snapshot,
    asker: Asker<'_>,
    question: &Question<'_>,
    buffer: &mut [u8],
) -> (usize, Code) {
    let refused = |code, buffer: &mut [u8]| (render_code(question, code, buffer), code);
    if question.edns.is_some_and(|edns| edns.version != 0) {
        return refused(Code::BadVers, buffer);
    }
    match snapshot.view(asker.audience, asker.source).map(|view| view.answer(question)) {
        None => refused(Code::Refused, buffer),
        Some(Outcome::Forward(_)) => refused(Code::ServFail, buffer),
        Some(outcome) => render(question, &outcome, question.id().into(), buffer, question.datagram_limit()),
    }
}
