//! What another server said, or a zone of the operator's, as a reply to a client's question.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::cache::Given;
use crate::wire::{Code, DATAGRAM_BYTES, Question, Reply};
use crate::zone::render_code;

/// Writes the reply and returns its length and code.
pub(crate) fn relay(
    question: &Question<'_>,
    given: &Given,
    buffer: &mut [u8],
    limit: usize,
) -> (usize, Code) {
    let limit = limit.min(buffer.len());
    let message = given.message.as_ref().and_then(|message| reply(question, message, given));
    let Some((code, bytes)) = message.and_then(|reply| Some((code(&reply), within(limit, reply)?))) else {
        return (render_code(question, Code::ServFail, buffer), Code::ServFail);
    };
    if bytes.len() > limit {
        let mut reply = Reply::begin(question, buffer, limit);
        reply.truncate();
        return (reply.finish(code, false, true), code);
    }
    buffer[..bytes.len()].copy_from_slice(&bytes);
    (bytes.len(), code)
}

/// The message's bytes, without additional records where those make it too long: what was asked for does without them
/// (RFC 2181, 9), but for a referral, where they are what leads on.
fn within(limit: usize, mut reply: Message) -> Option<Vec<u8>> {
    let bytes = reply.to_vec().ok()?;
    if bytes.len() <= limit || reply.additionals.is_empty() || reply.answers.is_empty() {
        return Some(bytes);
    }
    reply.additionals.clear();
    reply.to_vec().ok()
}

fn reply(question: &Question<'_>, message: &Message, given: &Given) -> Option<Message> {
    let mut reply = Message::new(question.id(), MessageType::Response, OpCode::Query);
    let (said, header) = (&message.metadata, &mut reply.metadata);
    header.recursion_desired = question.wants_recursion();
    header.recursion_available = true;
    header.checking_disabled = question.checks_itself();
    header.authentic_data = said.authentic_data && question.edns.is_some_and(|edns| edns.dnssec_ok);
    header.authoritative = given.is_own && said.authoritative;
    header.response_code = said.response_code;
    let asked = spelling(question)?;
    reply.queries.push(Query::query(asked.clone(), RecordType::from(question.kind)));
    let records = |records: &[Record]| records.iter().map(|record| aged(record, &asked, given)).collect();
    reply.answers = records(&message.answers);
    reply.authorities = records(&message.authorities);
    if given.is_own {
        reply.additionals = records(&message.additionals);
    }
    reply.edns = question.edns.map(|edns| {
        let mut own = Edns::new();
        own.set_max_payload(DATAGRAM_BYTES as u16).set_dnssec_ok(edns.dnssec_ok);
        own
    });
    Some(reply)
}

/// The name as the client wrote it.
fn spelling(question: &Question<'_>) -> Option<Name> {
    let behind = &question.head[crate::wire::HEADER_BYTES..];
    Name::read(&mut BinDecoder::new(behind)).ok()
}

/// A record as it is now. Its owner is written as the client wrote it: we asked with letters at random.
fn aged(record: &Record, asked: &Name, given: &Given) -> Record {
    let mut record = record.clone();
    record.ttl = given.ttl.unwrap_or(record.ttl.saturating_sub(given.age));
    if record.name == *asked {
        record.name = asked.clone();
    }
    record
}

/// For the counters: what others may say beyond our own codes counts as a failure.
fn code(message: &Message) -> Code {
    match message.metadata.response_code {
        ResponseCode::NoError => Code::NoError,
        ResponseCode::NXDomain => Code::NxDomain,
        ResponseCode::FormErr => Code::FormErr,
        ResponseCode::NotImp => Code::NotImp,
        ResponseCode::Refused => Code::Refused,
        _ => Code::ServFail,
    }
}
