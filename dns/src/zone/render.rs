//! Decisions as messages.

use super::Outcome;
use crate::wire::{Code, Full, Question, Reply, kind, pointer};

/// Seconds that an answer holds: an address may have another owner soon.
pub const TTL: u32 = 5;
/// Seconds that the absence of a name holds: it may be there in a moment.
pub const NEGATIVE_TTL: u32 = 1;

/// RNAME of SOA records, as RFC 6303, section 3, has it for zones that nobody is in charge of.
const NOBODY: &[u8] = b"\x06nobody\x07invalid\x00";
/// Serial, refresh, retry, expire, minimum.
const SOA_NUMBERS: [u32; 5] = [1, 3600, 1200, 604_800, NEGATIVE_TTL];
/// RFC 8482, 4.2.
const HINFO: &[u8] = b"\x07RFC8482\x00";

/// Writes the reply to `question` and returns its length and code. Where there are several addresses, the one number
/// `turn` is the first.
///
/// [`Outcome::Forward`] becomes SERVFAIL: it is for who can ask others.
pub fn render(
    question: &Question<'_>,
    outcome: &Outcome<'_>,
    turn: usize,
    buffer: &mut [u8],
    limit: usize,
) -> (usize, Code) {
    let (code, own) = code(outcome);
    let mut reply = Reply::begin(question, buffer, limit);
    if records(&mut reply, outcome, turn).is_err() {
        reply.truncate();
    }
    (reply.finish(code, own, true), code)
}

/// A reply without records.
pub(crate) fn render_code(question: &Question<'_>, code: Code, buffer: &mut [u8]) -> usize {
    let limit = buffer.len();
    Reply::begin(question, buffer, limit).finish(code, false, true)
}

fn code(outcome: &Outcome<'_>) -> (Code, bool) {
    match outcome {
        Outcome::NoName(_) => (Code::NxDomain, true),
        Outcome::Declined(code) => (*code, false),
        Outcome::Forward(_) => (Code::ServFail, false),
        Outcome::V4(_) | Outcome::V6(_) | Outcome::Names(_) | Outcome::Targets(_) => (Code::NoError, true),
        Outcome::Soa | Outcome::Ns | Outcome::Any | Outcome::NoData(_) => (Code::NoError, true),
    }
}

fn records(reply: &mut Reply<'_>, outcome: &Outcome<'_>, turn: usize) -> Result<(), Full> {
    match outcome {
        Outcome::V4(addresses) => {
            rotated(addresses, turn, |address| reply.answer(kind::A, TTL, &[&address.octets()]))
        }
        Outcome::V6(addresses) => {
            rotated(addresses, turn, |address| reply.answer(kind::AAAA, TTL, &[&address.octets()]))
        }
        Outcome::Names(names) => rotated(names, turn, |name| reply.answer(kind::PTR, TTL, &[name])),
        Outcome::Targets(targets) => targets.render(reply, turn),
        Outcome::Soa => {
            let numbers = soa_numbers();
            reply.answer(kind::SOA, TTL, &[&pointer(0), NOBODY, &numbers])
        }
        Outcome::Ns => reply.answer(kind::NS, TTL, &[&pointer(0)]),
        Outcome::Any => reply.answer(kind::HINFO, TTL, &[HINFO]),
        Outcome::NoData(zone) | Outcome::NoName(zone) => {
            let numbers = soa_numbers();
            reply.authority(*zone, kind::SOA, NEGATIVE_TTL, &[&pointer(*zone), NOBODY, &numbers])
        }
        Outcome::Declined(_) | Outcome::Forward(_) => Ok(()),
    }
}

pub(super) fn rotated<T>(
    items: &[T],
    turn: usize,
    each: impl FnMut(&T) -> Result<(), Full>,
) -> Result<(), Full> {
    let (before, from) = items.split_at(turn.checked_rem(items.len()).unwrap_or(0));
    from.iter().chain(before).try_for_each(each)
}

fn soa_numbers() -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes.chunks_exact_mut(4).zip(SOA_NUMBERS).for_each(|(place, number)| {
        place.copy_from_slice(&number.to_be_bytes());
    });
    bytes
}
