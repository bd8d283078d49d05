//! What others said, for as long as they said it holds; longer, when nobody says anything newer (RFC 8767).

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use tokio::time::Instant;

use crate::wire::Question;

/// Answers that are kept.
const ENTRIES: usize = 4096;
/// Bytes that they have on the wire, all together; in memory they take a few times that.
const BYTES: usize = 4 << 20;
/// The longest that an answer holds.
const LONGEST: Duration = Duration::from_hours(24);
/// The longest that an absence holds: RFC 2308, section 5.
const LONGEST_NEGATIVE: Duration = Duration::from_hours(1);
/// How long a failure holds: RFC 9520, 3.2, asks for a second at least.
const FAILURE: Duration = Duration::from_secs(1);
/// How long an answer is kept that does not hold any more.
const STALE: Duration = Duration::from_hours(24);
/// How long such an answer is given without asking again, and what is said of how long it holds: RFC 8767, 5.
const STALE_TTL: u32 = 30;

/// A question and who is asked: networks with other servers may get other answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The name in lower case on the wire, without its final zero.
    pub(super) name: Rc<[u8]>,
    pub(super) kind: u16,
    /// Signatures are wanted.
    pub(super) dnssec_ok: bool,
    /// The servers are not to judge them.
    pub(super) checks_itself: bool,
    pub(super) servers: Rc<[SocketAddr]>,
}

impl Key {
    pub(crate) fn new(question: &Question<'_>, servers: Rc<[SocketAddr]>) -> Self {
        Self {
            name: question.lower.bytes().into(),
            kind: question.kind,
            dnssec_ok: question.edns.is_some_and(|edns| edns.dnssec_ok),
            checks_itself: question.checks_itself(),
            servers,
        }
    }
}

/// An answer as it is given now.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    /// None: SERVFAIL.
    pub(super) message: Option<Rc<Message>>,
    /// Seconds since it was true; records hold so much less.
    pub(super) age: u32,
    /// How long all records hold, when it is an old answer.
    pub(super) ttl: Option<u32>,
    /// From a zone of the operator's: authoritative where it says so, with what it adds.
    pub(super) is_own: bool,
}

impl Given {
    /// Nobody answered.
    pub(crate) fn failure() -> Self {
        Self { message: None, age: 0, ttl: None, is_own: false }
    }

    /// A zone of the operator's answered.
    pub(crate) fn own(message: Message) -> Self {
        Self { message: Some(Rc::new(message)), age: 0, ttl: None, is_own: true }
    }
}

/// What is in the cache.
pub(super) enum Found {
    Fresh(Given),
    Nothing,
}

/// The answers. Bounded: those that nobody asked for go first.
#[derive(Default)]
pub(crate) struct Cache {
    entries: HashMap<Key, Entry>,
    /// Keys in the order in which they are looked at when room is needed.
    order: VecDeque<Key>,
    /// Of all entries.
    bytes: usize,
}

struct Entry {
    /// None: nobody answered.
    message: Option<Rc<Message>>,
    stored: Instant,
    expires: Instant,
    /// Given although it does not hold any more, and not asked for again until then.
    stale_until: Option<Instant>,
    /// Asked for since it was last looked at for its place.
    used: bool,
    /// On the wire.
    bytes: usize,
}

impl Cache {
    pub(super) fn find(&mut self, key: &Key, now: Instant) -> Found {
        let Some(entry) = self.entries.get_mut(key) else { return Found::Nothing };
        entry.used = true;
        if now < entry.expires {
            return Found::Fresh(entry.fresh(now));
        }
        match entry.stale_until {
            Some(until) if now < until => Found::Fresh(entry.stale()),
            _ => Found::Nothing,
        }
    }

    /// Takes in what was said, or that nothing was, and returns what is to be given, and whether that is an old answer.
    pub(crate) fn settle(&mut self, key: &Key, answer: Option<Message>, now: Instant) -> (Given, bool) {
        let is_failure = answer.as_ref().is_none_or(|message| !is_final(message.metadata.response_code));
        if is_failure && let Some(old) = self.entries.get_mut(key).filter(|old| old.is_usable(now)) {
            old.stale_until = Some(now + Duration::from_secs(STALE_TTL.into()));
            return (old.stale(), true);
        }
        let holds = if is_failure { Some(FAILURE) } else { answer.as_ref().and_then(holds) };
        let message = answer.map(Rc::new);
        let given = Given { message: message.clone(), age: 0, ttl: None, is_own: false };
        match holds.filter(|holds| !holds.is_zero()) {
            Some(holds) => self.store(key, Entry::new(message, now, holds)),
            None => self.remove(key),
        }
        (given, false)
    }

    fn store(&mut self, key: &Key, entry: Entry) {
        self.bytes += entry.bytes;
        match self.entries.insert(key.clone(), entry) {
            Some(old) => self.bytes -= old.bytes,
            None => self.order.push_back(key.clone()),
        }
        while self.order.len() > ENTRIES || self.bytes > BYTES {
            self.make_room();
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }

    /// Drops the first that was not asked for since its last turn.
    fn make_room(&mut self) {
        let Some(key) = self.order.pop_front() else { return };
        match self.entries.get_mut(&key) {
            Some(entry) if entry.used => {
                entry.used = false;
                self.order.push_back(key);
            }
            Some(_) => self.remove(&key),
            None => {}
        }
    }
}

impl Entry {
    fn new(message: Option<Rc<Message>>, now: Instant, holds: Duration) -> Self {
        let bytes = message.as_ref().and_then(|message| message.to_vec().ok()).map_or(0, |wire| wire.len());
        Self { message, stored: now, expires: now + holds, stale_until: None, used: false, bytes }
    }

    fn fresh(&self, now: Instant) -> Given {
        let age = u32::try_from((now - self.stored).as_secs()).unwrap_or(u32::MAX);
        Given { message: self.message.clone(), age, ttl: None, is_own: false }
    }

    fn stale(&self) -> Given {
        Given { message: self.message.clone(), age: 0, ttl: Some(STALE_TTL), is_own: false }
    }

    /// Whether it is an answer that may be given although it does not hold any more.
    fn is_usable(&self, now: Instant) -> bool {
        let is_answer = self.message.as_ref().is_some_and(|message| is_final(message.metadata.response_code));
        is_answer && now < self.expires + STALE
    }
}

/// Whether a server with this code has decided something about the name.
pub(super) fn is_final(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// How long an answer holds: as long as the first of its records to end, or, for an absence, as its SOA says
/// (RFC 2308, 5). None: not at all.
fn holds(message: &Message) -> Option<Duration> {
    let is_answer = message.metadata.response_code == ResponseCode::NoError && !message.answers.is_empty();
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    if is_answer {
        let shortest = message.answers.iter().map(|record| record.ttl).min()?;
        return Some(seconds(shortest).min(LONGEST));
    }
    let soa = message.authorities.iter().find(|record| record.record_type() == RecordType::SOA)?;
    let RData::SOA(data) = &soa.data else { return None };
    Some(seconds(soa.ttl.min(data.minimum)).min(LONGEST_NEGATIVE))
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{MessageType, OpCode};
    use hickory_proto::rr::rdata::{A, SOA};
    use hickory_proto::rr::{Name, Record};

    use super::*;

    fn key(number: usize) -> Key {
        let name = format!("name{number}").into_bytes();
        let servers = Rc::from([SocketAddr::from(([192, 0, 2, 1], 53))]);
        Key { name: name.into(), kind: 1, dnssec_ok: false, checks_itself: false, servers }
    }

    fn message(code: ResponseCode) -> Message {
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        message
    }

    fn answer(ttl: u32) -> Option<Message> {
        let mut message = message(ResponseCode::NoError);
        message.answers.push(Record::from_rdata(Name::root(), ttl, RData::A(A::new(192, 0, 2, 9))));
        Some(message)
    }

    fn absence(ttl: u32, minimum: u32) -> Option<Message> {
        let mut message = message(ResponseCode::NXDomain);
        let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, minimum);
        message.authorities.push(Record::from_rdata(Name::root(), ttl, RData::SOA(soa)));
        Some(message)
    }

    /// Whether an answer is still there so many seconds after it came.
    fn check(answer: Option<Message>, seconds: u64, expected: bool) {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.settle(&key(0), answer, now);
        let found = cache.find(&key(0), now + Duration::from_secs(seconds));
        assert_eq!(matches!(found, Found::Fresh(_)), expected, "{seconds} s");
    }

    #[test]
    fn answers_are_kept_as_long_as_they_hold() {
        check(answer(60), 59, true);
        check(answer(60), 60, false);
        check(answer(0), 0, false);
        check(answer(u32::MAX), 25 * 3600, false);
        check(absence(60, 10), 9, true);
        check(absence(60, 10), 10, false);
        check(Some(message(ResponseCode::NXDomain)), 0, false);
        check(None, 0, true);
        check(None, 1, false);
    }

    #[test]
    fn an_old_answer_is_better_than_none_for_a_day() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.settle(&key(0), answer(60), now);
        let later = now + Duration::from_secs(100);
        for failure in [None, Some(message(ResponseCode::ServFail))] {
            let (given, is_stale) = cache.settle(&key(0), failure, later);
            assert!(is_stale && given.message.is_some() && given.ttl == Some(30));
        }
        let asked_again = |seconds| later + Duration::from_secs(seconds);
        assert!(matches!(cache.find(&key(0), asked_again(29)), Found::Fresh(_)));
        assert!(matches!(cache.find(&key(0), asked_again(30)), Found::Nothing));
        let (given, is_stale) = cache.settle(&key(0), None, now + Duration::from_secs(90_000));
        assert!(!is_stale && given.message.is_none());
    }

    #[test]
    fn long_answers_do_not_fill_the_memory() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let mut long = answer(60).unwrap();
        long.answers = vec![long.answers[0].clone(); 4000];
        for number in 0..150 {
            cache.settle(&key(number % 100), Some(long.clone()), now);
        }
        assert!(cache.bytes <= BYTES && cache.entries.len() > 40, "{}", cache.entries.len());
        assert_eq!(cache.bytes, cache.entries.values().map(|entry| entry.bytes).sum::<usize>());
    }

    #[test]
    fn there_are_never_too_many_and_what_is_used_stays() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for number in 0..3 * ENTRIES {
            cache.settle(&key(number), answer(60), now);
            cache.find(&key(0), now);
        }
        assert!(cache.entries.len() <= ENTRIES && cache.order.len() <= ENTRIES);
        assert!(matches!(cache.find(&key(0), now), Found::Fresh(_)));
    }
}
