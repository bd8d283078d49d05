//! Datagrams on their way out: written one behind the other, and sent many at a time.

use std::net::SocketAddr;

use zeugma_kernel::{Run, TunnelSocket};

/// Bytes that are gathered before they are sent.
const CAPACITY: usize = 256 << 10;
/// Bytes of one run: the longest that UDP takes in one piece, over IPv4.
const LONGEST: usize = 65_507;
/// Datagrams of one run: `UDP_MAX_SEGMENTS` of all kernels.
const MOST: usize = 64;

/// The sockets of both families; a host may lack one.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) v4: Option<TunnelSocket>,
    pub(crate) v6: Option<TunnelSocket>,
}

/// Datagrams that wait.
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    end: usize,
    runs: Vec<Waiting>,
}

/// A run of the buffer's bytes.
struct Waiting {
    begin: usize,
    end: usize,
    segment: usize,
    to: SocketAddr,
    ecn: u8,
    is_closed: bool,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { bytes: vec![0; CAPACITY], end: 0, runs: Vec::new() }
    }
}

impl Outbox {
    /// Room for `needed` bytes at least; what waits is sent if there is none.
    pub(crate) fn room(&mut self, needed: usize, sockets: &Sockets) -> &mut [u8] {
        if self.bytes.len() - self.end < needed {
            self.send(sockets);
        }
        &mut self.bytes[self.end..]
    }

    /// The first `length` bytes of the room are a datagram.
    pub(crate) fn push(&mut self, length: usize, to: SocketAddr, ecn: u8) {
        let begin = self.end;
        self.end += length;
        if let Some(run) = self.runs.last_mut().filter(|run| run.takes(length, to, ecn)) {
            run.end = self.end;
            run.is_closed = length < run.segment;
            return;
        }
        self.runs.push(Waiting { begin, end: self.end, segment: length, to, ecn, is_closed: false });
    }

    /// Whether so much waits that it had better be sent.
    pub(crate) fn is_full(&self) -> bool {
        self.end > CAPACITY / 2
    }

    /// Sends all of it. What the kernel does not take is lost, as on any wire.
    pub(crate) fn send(&mut self, sockets: &Sockets) {
        for (socket, is_v6) in [(&sockets.v4, false), (&sockets.v6, true)] {
            let Some(socket) = socket else { continue };
            let mine = self.runs.iter().filter(|run| run.to.is_ipv6() == is_v6);
            let unsent = socket.send(mine.map(|run| run.of(&self.bytes)));
            if unsent > 0 {
                tracing::debug!(unsent, "the kernel did not take all datagrams");
            }
        }
        self.runs.clear();
        self.end = 0;
    }
}

impl Waiting {
    fn takes(&self, length: usize, to: SocketAddr, ecn: u8) -> bool {
        let all = self.end - self.begin;
        !self.is_closed
            && length <= self.segment
            && all + length <= LONGEST
            && all < self.segment * MOST
            && (self.to, self.ecn) == (to, ecn)
    }

    fn of<'a>(&self, bytes: &'a [u8]) -> Run<'a> {
        Run { bytes: &bytes[self.begin..self.end], segment: self.segment, to: self.to, ecn: self.ecn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_of_one_length_to_one_address_are_one_run() {
        let sockets = Sockets::default();
        let to = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let runs = |given: &[(usize, u16)]| -> Vec<(usize, usize)> {
            let mut outbox = Outbox::default();
            for (length, port) in given {
                let _ = outbox.room(*length, &sockets);
                outbox.push(*length, to(*port), 0);
            }
            outbox.runs.iter().map(|run| (run.end - run.begin, run.segment)).collect()
        };
        assert_eq!(runs(&[(1000, 1), (1000, 1), (10, 1)]), [(2010, 1000)]);
        // A short one is a run's last; a longer one begins another.
        assert_eq!(runs(&[(1000, 1), (10, 1), (10, 1)]), [(1010, 1000), (10, 10)]);
        assert_eq!(runs(&[(10, 1), (1000, 1)]), [(10, 10), (1000, 1000)]);
        assert_eq!(runs(&[(10, 1), (10, 2), (10, 1)]), [(10, 10), (10, 10), (10, 10)]);
        assert_eq!(runs(&[(100, 1); 65]), [(6400, 100), (100, 100)]);
        assert_eq!(runs(&[(40_000, 1); 2]), [(40_000, 40_000), (40_000, 40_000)]);
    }
}
