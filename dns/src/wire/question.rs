//! A request: header, one question, and of the rest only what EDNS says.

use super::{DATAGRAM_BYTES, HEADER_BYTES, LowerName, NAME_BYTES, PLAIN_DATAGRAM_BYTES, kind};

/// What makes a message one that is not served; what is to be answered depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Not even a header, or a response: nothing is answered, or two servers could answer each other for ever.
    Silent,
    /// FORMERR.
    Form,
    /// Another operation than QUERY: NOTIMP.
    Operation,
}

/// What a client says about itself in its OPT record: RFC 6891.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The largest datagram that it takes.
    pub payload: u16,
    /// Only 0 is known.
    pub version: u8,
    /// It wants signatures (RFC 3225).
    pub dnssec_ok: bool,
}

/// A request with its one question.
#[derive(Clone)]
pub struct Question<'a> {
    /// The whole message up to the end of the question: what a reply begins with.
    pub head: &'a [u8],
    /// The name as asked, on the wire, without the final zero.
    pub name: &'a [u8],
    /// The same in lower case.
    pub lower: LowerName,
    /// The record type asked for.
    pub kind: u16,
    /// The class asked for.
    pub class: u16,
    /// What the client says of itself.
    pub edns: Option<Edns>,
}

const RESPONSE: u8 = 0x80;
const OPERATION: u8 = 0x78;

impl<'a> Question<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// How to treat it otherwise.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let header = message.get(..HEADER_BYTES).ok_or(Malformed::Silent)?;
        if header[2] & RESPONSE != 0 {
            return Err(Malformed::Silent);
        }
        if header[2] & OPERATION != 0 {
            return Err(Malformed::Operation);
        }
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if (count(4), count(6), count(8)) != (1, 0, 0) {
            return Err(Malformed::Form);
        }
        let length = name_length(&message[HEADER_BYTES..]).ok_or(Malformed::Form)?;
        let name = &message[HEADER_BYTES..HEADER_BYTES + length];
        let behind = HEADER_BYTES + length + 1;
        let fixed = message.get(behind..behind + 4).ok_or(Malformed::Form)?;
        Ok(Self {
            head: &message[..behind + 4],
            name,
            lower: LowerName::of_wire(name),
            kind: u16::from_be_bytes([fixed[0], fixed[1]]),
            class: u16::from_be_bytes([fixed[2], fixed[3]]),
            edns: edns(&message[behind + 4..], count(10))?,
        })
    }

    /// Its number, which the reply has, too.
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.head[0], self.head[1]])
    }

    /// Whether others are to be asked, if need be (RD).
    pub fn wants_recursion(&self) -> bool {
        self.head[2] & 1 != 0
    }

    /// Whether signatures are left to the client (CD).
    pub fn checks_itself(&self) -> bool {
        self.head[3] & 0x10 != 0
    }

    /// How long a datagram to this client may be.
    pub fn datagram_limit(&self) -> usize {
        let payload = self.edns.map_or(0, |edns| edns.payload.into());
        payload.clamp(PLAIN_DATAGRAM_BYTES, DATAGRAM_BYTES)
    }
}

/// Bytes of the name's labels, without the final zero. None when it is cut, too long, or compressed: there is nothing
/// that a question could point back at.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => return Some(at),
            length @ 1..64 => at += length + 1,
            _ => return None,
        }
        if at > NAME_BYTES - 1 {
            return None;
        }
    }
}

/// The OPT record among `count` additional records.
fn edns(mut bytes: &[u8], count: u16) -> Result<Option<Edns>, Malformed> {
    let mut found = None;
    for _ in 0..count {
        let (record, rest) = split_record(bytes).ok_or(Malformed::Form)?;
        bytes = rest;
        let Some(edns) = record else { continue };
        // RFC 6891, 6.1.1: more than one is a FORMERR.
        if found.replace(edns).is_some() {
            return Err(Malformed::Form);
        }
    }
    Ok(found)
}

/// One additional record, when it is an OPT, and what is behind it.
fn split_record(bytes: &[u8]) -> Option<(Option<Edns>, &[u8])> {
    let owner = skip_name(bytes)?;
    let fixed = bytes.get(owner..owner + 10)?;
    let number = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let rest = bytes.get(owner + 10 + usize::from(number(8))..)?;
    let is_opt = number(0) == kind::OPT && owner == 1;
    let edns = Edns { payload: number(2), version: fixed[5], dnssec_ok: fixed[6] & 0x80 != 0 };
    Some((is_opt.then_some(edns), rest))
}

/// Bytes of a name that may end in a pointer.
fn skip_name(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..64 => at += usize::from(length) + 1,
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}
