//! A blocking netlink socket: several requests in one datagram, their answers by sequence number.

use std::io;
use std::os::fd::AsRawFd;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkSerializable};
use netlink_sys::Socket;

use crate::Refusal;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLMSG_ERROR` carries attributes (`NLM_F_ACK_TLVS`).
const FLAG_ACK_TLVS: u16 = 0x200;
/// The text among them (`NLMSGERR_ATTR_MSG`).
const ATTR_MSG: u16 = 1;
/// Twice the largest dump part that the kernel sends.
const BUFFER: usize = 64 * 1024;

/// A netlink socket with its sequence numbers and buffers.
pub(crate) struct Channel {
    socket: Socket,
    sequence: u32,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

/// One message from the kernel.
pub(crate) struct Incoming<'a> {
    pub(crate) sequence: u32,
    pub(crate) answer: Answer<'a>,
}

/// What a message says.
pub(crate) enum Answer<'a> {
    /// An acknowledgement or error.
    Ack(Result<(), Refusal>),
    /// The end of a dump.
    Done,
    /// A whole netlink message, header included.
    Message(&'a [u8]),
}

impl Channel {
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        Ok(Self { socket, sequence: 0, outgoing: Vec::with_capacity(4096), incoming: Vec::new() })
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Appends a request to the next datagram; returns its sequence number.
    pub(crate) fn push<T: NetlinkSerializable>(&mut self, mut message: NetlinkMessage<T>, flags: u16) -> u32 {
        self.sequence += 1;
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let start = self.outgoing.len();
        let length = message.buffer_len();
        self.outgoing.resize(start + length.next_multiple_of(4), 0);
        message.serialize(&mut self.outgoing[start..start + length]);
        self.sequence
    }

    /// Appends a request whose body (padded to 32 bits) `write` makes; returns its sequence number.
    pub(crate) fn append(&mut self, kind: u16, flags: u16, write: impl FnOnce(&mut Vec<u8>)) -> u32 {
        self.sequence += 1;
        let start = self.outgoing.len();
        self.outgoing.extend([0; HEADER]);
        write(&mut self.outgoing);
        let length = (self.outgoing.len() - start) as u32;
        let header = &mut self.outgoing[start..start + HEADER];
        header[..4].copy_from_slice(&length.to_ne_bytes());
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        header[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        self.sequence
    }

    /// Forgets what was pushed.
    pub(crate) fn discard(&mut self) {
        self.outgoing.clear();
    }

    /// Bytes waiting for [`Self::flush`].
    pub(crate) fn pending(&self) -> usize {
        self.outgoing.len()
    }

    /// Asks for an acknowledgement of the request that was pushed at `start` bytes.
    pub(crate) fn want_ack(&mut self, start: usize) {
        let low = self.outgoing[start + 6];
        self.outgoing[start + 6] = low | NLM_F_ACK as u8;
    }

    /// Makes the send buffer large enough for a datagram of `bytes`.
    pub(crate) fn make_room(&mut self, bytes: usize) -> io::Result<()> {
        /// Half of the kernel's default (`net.core.wmem_default`).
        const ALWAYS_FITS: usize = 96 * 1024;
        if bytes > ALWAYS_FITS { crate::sys::send_buffer(self.socket.as_raw_fd(), bytes * 2) } else { Ok(()) }
    }

    /// Sends what was pushed, as one datagram.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let outgoing = std::mem::take(&mut self.outgoing);
        let sent = self.socket.send(&outgoing, 0);
        self.outgoing = outgoing;
        self.outgoing.clear();
        sent.map(drop)
    }

    /// Receives one datagram and shows its messages until `visit` says that it has enough.
    ///
    /// `visit` returns true when nothing more is to come.
    pub(crate) fn receive(&mut self, mut visit: impl FnMut(Incoming<'_>) -> bool) -> io::Result<()> {
        // Reserved, not filled: pages that no answer reaches are never touched.
        self.incoming.clear();
        self.incoming.reserve(BUFFER);
        loop {
            self.incoming.clear();
            match self.socket.recv(&mut self.incoming, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if messages(&self.incoming).any(&mut visit) {
                return Ok(());
            }
        }
    }

    /// Sends what was pushed and shows the messages that answer one request; says what the kernel refused, if it did.
    ///
    /// `visit` returns true when nothing more is to come; an acknowledgement and the end of a dump say so themselves.
    pub(crate) fn answers(
        &mut self,
        sequence: u32,
        mut visit: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<Option<Refusal>> {
        self.flush()?;
        let mut refused = None;
        self.receive(|incoming| {
            incoming.sequence == sequence
                && match incoming.answer {
                    Answer::Message(bytes) => visit(bytes),
                    Answer::Ack(result) => {
                        refused = result.err();
                        true
                    }
                    Answer::Done => true,
                }
        })?;
        Ok(refused)
    }
}

/// Splits a datagram. A message that is cut short ends it.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Incoming<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(incoming(message))
    })
}

fn incoming(message: &[u8]) -> Incoming<'_> {
    let half = |at: usize| u16::from_ne_bytes([message[at], message[at + 1]]);
    let word =
        |at: usize| u32::from_ne_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
    let answer = match half(4) {
        NLMSG_ERROR if message.len() >= HEADER + 4 => match word(HEADER) as i32 {
            0 => Answer::Ack(Ok(())),
            code => {
                Answer::Ack(Err(Refusal { errno: code.saturating_neg(), reason: reason(message, half(6)) }))
            }
        },
        NLMSG_DONE => Answer::Done,
        _ => Answer::Message(message),
    };
    Incoming { sequence: word(8), answer }
}

/// The kernel's words in an extended ACK: behind the error code and the (capped) header of the request.
fn reason(message: &[u8], flags: u16) -> Option<String> {
    if flags & FLAG_ACK_TLVS == 0 {
        return None;
    }
    let mut rest = message.get(HEADER + 4 + HEADER..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        if kind & 0x3fff == ATTR_MSG {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(bytes: &[u8]) -> usize {
        messages(bytes).count()
    }

    #[test]
    fn cut_and_wild_datagrams_are_survived() {
        assert_eq!(split(&[]), 0);
        assert_eq!(split(&[255; 40]), 0);
        assert_eq!(split(&[4, 0, 0, 0, 0]), 0);
        let mut done = [0u8; 16];
        done[0] = 16;
        done[4] = 3;
        assert_eq!(split(&done), 1);
        let mut error = [0u8; 24];
        error[0] = 24;
        error[4] = 2;
        error[6..8].copy_from_slice(&FLAG_ACK_TLVS.to_ne_bytes());
        error[16..20].copy_from_slice(&(-17i32).to_ne_bytes());
        assert_eq!(split(&error), 1);
    }
}
