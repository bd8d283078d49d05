//! A reply, written into a buffer that the caller has.

use super::{Code, HEADER_BYTES, Question, kind};

/// The buffer's end, or the client's limit, is reached: the reply is to be truncated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The class IN.
const INTERNET: [u8; 2] = [0, 1];
/// The two bits that make a name's length a pointer: RFC 1035, 4.1.4.
const POINTER: u16 = 0xc000;
/// What an OPT record without options takes.
const OPT_BYTES: usize = 11;
const AUTHORITATIVE: u8 = 0x04;
const TRUNCATED: u8 = 0x02;
const RECURSION_AVAILABLE: u8 = 0x80;

/// Begun with the header and the question of a request; records are added in the order of their sections.
pub struct Reply<'a> {
    buffer: &'a mut [u8],
    at: usize,
    /// Room that records may take, an OPT record already accounted for.
    limit: usize,
    question: &'a Question<'a>,
    counts: [u16; 3],
    truncated: bool,
}

impl<'a> Reply<'a> {
    /// Copies the question, so that its name keeps its case. `limit` is what the client takes.
    ///
    /// # Panics
    /// When the buffer is shorter than a datagram may be.
    pub fn begin(question: &'a Question<'a>, buffer: &'a mut [u8], limit: usize) -> Self {
        let at = question.head.len();
        buffer[..at].copy_from_slice(question.head);
        let opt = if question.edns.is_some() { OPT_BYTES } else { 0 };
        let limit = limit.min(buffer.len()) - opt;
        Self { buffer, at, limit, question, counts: [0; 3], truncated: false }
    }

    /// A record of the answer section whose owner is the question's name.
    ///
    /// # Errors
    /// [`Full`].
    pub fn answer(&mut self, kind: u16, ttl: u32, data: &[&[u8]]) -> Result<(), Full> {
        self.record(pointer(0), kind, ttl, data)?;
        self.counts[0] += 1;
        Ok(())
    }

    /// A record of the authority section. `owner` is where in the question's name its own begins, in bytes.
    ///
    /// # Errors
    /// [`Full`].
    pub fn authority(&mut self, owner: usize, kind: u16, ttl: u32, data: &[&[u8]]) -> Result<(), Full> {
        self.record(pointer(owner), kind, ttl, data)?;
        self.counts[1] += 1;
        Ok(())
    }

    /// A record of the additional section. `owner` is where in the message its name stands: in an earlier record.
    ///
    /// # Errors
    /// [`Full`], also when that is farther than a pointer reaches.
    pub fn additional(&mut self, owner: usize, kind: u16, ttl: u32, data: &[&[u8]]) -> Result<(), Full> {
        let owner = u16::try_from(owner).ok().filter(|owner| *owner <= !POINTER).ok_or(Full)?;
        self.record((POINTER | owner).to_be_bytes(), kind, ttl, data)?;
        self.counts[2] += 1;
        Ok(())
    }

    /// Where in the message the next record begins.
    pub fn position(&self) -> usize {
        self.at
    }

    fn record(&mut self, owner: [u8; 2], kind: u16, ttl: u32, data: &[&[u8]]) -> Result<(), Full> {
        let length: usize = data.iter().map(|part| part.len()).sum();
        if self.at + 12 + length > self.limit {
            return Err(Full);
        }
        let data_length = u16::try_from(length).map_err(|_| Full)?;
        self.put(&owner);
        self.put(&kind.to_be_bytes());
        self.put(&INTERNET);
        self.put(&ttl.to_be_bytes());
        self.put(&data_length.to_be_bytes());
        data.iter().for_each(|part| self.put(part));
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        self.buffer[self.at..end].copy_from_slice(bytes);
        self.at = end;
    }

    /// Takes all records back and says so: the client is to ask over TCP.
    pub fn truncate(&mut self) {
        self.at = self.question.head.len();
        self.counts = [0; 3];
        self.truncated = true;
    }

    /// Writes the header and the OPT record; the message's length. `own`: the answer is of our own names.
    pub fn finish(mut self, code: Code, own: bool, recursion: bool) -> usize {
        let code = code as u8;
        let truncated = if self.truncated { TRUNCATED } else { 0 };
        let own = if own { AUTHORITATIVE } else { 0 };
        // Of the request stay its operation and RD; of the second byte, CD.
        self.buffer[2] = 0x80 | (self.question.head[2] & 0x79) | own | truncated;
        let available = if recursion { RECURSION_AVAILABLE } else { 0 };
        self.buffer[3] = available | (self.question.head[3] & 0x10) | (code & 0x0f);
        let opt = self.question.edns.is_some();
        let [answers, authorities, additional] = self.counts;
        let counts = [1, answers, authorities, additional + u16::from(opt)];
        for (at, count) in counts.into_iter().enumerate() {
            self.buffer[4 + 2 * at..6 + 2 * at].copy_from_slice(&count.to_be_bytes());
        }
        if opt {
            self.put_opt(code >> 4);
        }
        self.at
    }

    fn put_opt(&mut self, extended_code: u8) {
        let dnssec = if self.question.edns.is_some_and(|edns| edns.dnssec_ok) { 0x80 } else { 0 };
        self.put(&[0]);
        self.put(&kind::OPT.to_be_bytes());
        self.put(&(super::DATAGRAM_BYTES as u16).to_be_bytes());
        self.put(&[extended_code, 0, dnssec, 0, 0, 0]);
    }
}

/// A compression pointer (RFC 1035, 4.1.4) into the question's name.
pub(crate) fn pointer(offset: usize) -> [u8; 2] {
    let at = u16::try_from(HEADER_BYTES + offset).unwrap_or(HEADER_BYTES as u16);
    (POINTER | at).to_be_bytes()
}

/// The reply to a request whose question cannot be read: a header and nothing else.
pub(crate) fn bare(request: &[u8], code: Code, buffer: &mut [u8]) -> usize {
    let reply = &mut buffer[..HEADER_BYTES];
    reply.fill(0);
    reply[..2].copy_from_slice(&request[..2]);
    reply[2] = 0x80 | (request[2] & 0x79);
    reply[3] = code as u8;
    HEADER_BYTES
}
