//! A UDP socket that tunnels are made of: many datagrams of one length in one piece, both ways.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, setsockopt, sockopt,
};
use nix::sys::time::TimeVal;

use crate::sys::tunnel;

/// Bytes that may wait at the socket, in and out: what comes and goes in some ten milliseconds.
const BUFFER: usize = 8 << 20;
/// How long sending waits for room: after that the datagram is lost, as it would be on the wire.
const PATIENCE: Duration = Duration::from_millis(200);
/// Bytes of the longest piece that comes in.
const LONGEST: usize = 65_536;
/// After a way on which the kernel cannot cut pieces, so many runs are cut here.
const WITHOUT: u32 = 10_000;

/// One family's socket. It has the port on all of the host's addresses.
#[derive(Debug)]
pub struct TunnelSocket {
    fd: OwnedFd,
    without_segments: Cell<u32>,
}

/// Datagrams of one length to one address; the last may be shorter.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// All of them, one behind the other, at most 65,507 bytes and 64 datagrams.
    pub bytes: &'a [u8],
    /// Bytes of each.
    pub segment: usize,
    /// To whom.
    pub to: SocketAddr,
    /// The two bits of RFC 3168 in their IP headers.
    pub ecn: u8,
}

/// Datagrams that came in together.
#[derive(Debug, Clone, Copy)]
pub struct Arrived<'a> {
    /// All of them.
    pub bytes: &'a [u8],
    /// Bytes of each but the last, which may be shorter; at least 1.
    pub segment: usize,
    /// Who sent them.
    pub from: SocketAddr,
    /// The two bits of RFC 3168 of all of them.
    pub ecn: u8,
}

/// Room for what comes in at once.
pub struct Arrivals(tunnel::Room);

impl Default for Arrivals {
    fn default() -> Self {
        Self(tunnel::Room::new(LONGEST))
    }
}

impl Arrivals {
    /// What came in at `index` below the number that [`TunnelSocket::receive`] gave.
    pub fn get(&self, index: usize) -> Option<Arrived<'_>> {
        let (bytes, piece) = (self.0.bytes(index), self.0.piece(index));
        let segment = if piece.segment == 0 { bytes.len() } else { piece.segment };
        let from = self.0.from(index)?;
        (!bytes.is_empty()).then_some(Arrived { bytes, segment, from, ecn: piece.ecn })
    }
}

impl TunnelSocket {
    /// Opens it; port 0: any that is free. `mark` is that of what it sends (`SO_MARK`); 0: none.
    ///
    /// # Errors
    /// The port is taken, or the host has no such family.
    pub fn open(is_v6: bool, port: u16, mark: u32) -> io::Result<Self> {
        let family = if is_v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let fd = socket::socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        // The limits for ordinary users do, where this is one.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &BUFFER);
        let _ = setsockopt(&fd, sockopt::SndBufForce, &BUFFER);
        setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(0, PATIENCE.as_micros() as _))?;
        if mark != 0 {
            setsockopt(&fd, sockopt::Mark, &mark)?;
        }
        if is_v6 {
            setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
            let any = SocketAddr::from(([0_u16; 8], port));
            let SocketAddr::V6(any) = any else { return Err(io::ErrorKind::InvalidInput.into()) };
            socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(any))?;
        } else {
            socket::bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port))?;
        }
        tunnel::prepare(fd.as_fd(), is_v6)?;
        Ok(Self { fd, without_segments: Cell::new(0) })
    }

    /// The port that it has.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn port(&self) -> io::Result<u16> {
        let address: socket::SockaddrStorage = socket::getsockname(self.fd.as_raw_fd())?;
        let v4 = address.as_sockaddr_in().map(SockaddrIn::port);
        Ok(v4.or(address.as_sockaddr_in6().map(SockaddrIn6::port)).unwrap_or(0))
    }

    /// Receives what is there; how many pieces. Blocks never.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing.
    pub fn receive(&self, arrivals: &mut Arrivals) -> io::Result<usize> {
        tunnel::receive(self.fd.as_fd(), &mut arrivals.0)
    }

    /// Sends them all; how many runs the kernel did not take. Where it cannot cut a run into its datagrams, they are
    /// sent one by one.
    pub fn send<'a>(&self, runs: impl Iterator<Item = Run<'a>>) -> usize {
        let mut waiting = Waiting { socket: self, runs: [EMPTY; tunnel::BATCH], used: 0, unsent: 0 };
        for run in runs {
            let is_alone = run.bytes.len() <= run.segment;
            if is_alone || self.without_segments.get() == 0 {
                let segment = if is_alone { 0 } else { u16::try_from(run.segment).unwrap_or(0) };
                waiting.push(tunnel::Run { bytes: run.bytes, segment, to: run.to, ecn: run.ecn });
                continue;
            }
            self.without_segments.set(self.without_segments.get() - 1);
            one_by_one(&run).for_each(|run| waiting.push(run));
        }
        waiting.flush();
        waiting.unsent
    }

    fn one_by_one(&self, run: &tunnel::Run<'_>, error: &io::Error) -> usize {
        // The device that leads there cannot have its checksums made; any other trouble is that of this run alone.
        if error.raw_os_error() == Some(libc::EIO) {
            self.without_segments.set(WITHOUT);
        }
        let whole = Run { bytes: run.bytes, segment: run.segment.into(), to: run.to, ecn: run.ecn };
        let sent = one_by_one(&whole).filter(|one| tunnel::send(self.fd.as_fd(), &[*one]).is_ok()).count();
        usize::from(sent == 0)
    }
}

impl AsFd for TunnelSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const EMPTY: tunnel::Run<'static> = tunnel::Run {
    bytes: &[],
    segment: 0,
    to: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
    ecn: 0,
};

fn one_by_one<'a>(run: &Run<'a>) -> impl Iterator<Item = tunnel::Run<'a>> {
    let (to, ecn) = (run.to, run.ecn);
    run.bytes.chunks(run.segment.max(1)).map(move |bytes| tunnel::Run { bytes, segment: 0, to, ecn })
}

/// Runs that wait for one call.
struct Waiting<'s, 'a> {
    socket: &'s TunnelSocket,
    runs: [tunnel::Run<'a>; tunnel::BATCH],
    used: usize,
    unsent: usize,
}

impl<'a> Waiting<'_, 'a> {
    fn push(&mut self, run: tunnel::Run<'a>) {
        if self.used == tunnel::BATCH {
            self.flush();
        }
        self.runs[self.used] = run;
        self.used += 1;
    }

    fn flush(&mut self) {
        let mut runs = &self.runs[..self.used];
        while let Some(first) = runs.first() {
            match tunnel::send(self.socket.fd.as_fd(), runs) {
                Ok(sent @ 1..) => runs = &runs[sent.min(runs.len())..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Without room there is none for its datagrams, either: each would wait as long again.
                Err(error) if first.segment > 0 && error.kind() != io::ErrorKind::WouldBlock => {
                    self.unsent += self.socket.one_by_one(first, &error);
                    runs = &runs[1..];
                }
                Ok(0) | Err(_) => {
                    self.unsent += 1;
                    runs = &runs[1..];
                }
            }
        }
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(is_v6: bool, host: &str) {
        let (here, there) =
            (TunnelSocket::open(is_v6, 0, 0).unwrap(), TunnelSocket::open(is_v6, 0, 0).unwrap());
        let to = SocketAddr::new(host.parse().unwrap(), there.port().unwrap());
        let bytes: Vec<u8> = (0..3210_u32).map(|number| number as u8).collect();
        let run = |bytes, segment, ecn| Run { bytes, segment, to, ecn };
        let runs = [run(&bytes[..], 1000, 0), run(&bytes[..7], 7, 1)];
        assert_eq!(here.send(runs.into_iter()), 0);
        let mut arrivals = Arrivals::default();
        let mut came: Vec<(Vec<u8>, u8)> = Vec::new();
        for index in 0..there.receive(&mut arrivals).unwrap() {
            let piece = arrivals.get(index).unwrap();
            assert_eq!(piece.from, SocketAddr::new(host.parse().unwrap(), here.port().unwrap()));
            came.extend(piece.bytes.chunks(piece.segment).map(|bytes| (bytes.to_vec(), piece.ecn)));
        }
        let expected = bytes.chunks(1000).map(|bytes| (bytes.to_vec(), 0)).chain([(bytes[..7].to_vec(), 1)]);
        assert_eq!(came, expected.collect::<Vec<_>>());
    }

    #[test]
    fn runs_arrive_datagram_by_datagram() {
        check(false, "127.0.0.1");
        check(true, "::1");
    }

    #[test]
    fn a_run_that_the_way_is_too_narrow_for_is_sent_one_by_one() {
        let (here, there) =
            (TunnelSocket::open(false, 0, 0).unwrap(), TunnelSocket::open(false, 0, 0).unwrap());
        let to = SocketAddr::from(([127, 0, 0, 1], there.port().unwrap()));
        // A datagram longer than lo's MTU is no segment, but fragments will do.
        let bytes = vec![1; 65_400];
        let segment = 65_399;
        assert_eq!(here.send([Run { bytes: &bytes, segment, to, ecn: 0 }].into_iter()), 0);
        let mut arrivals = Arrivals::default();
        let count = there.receive(&mut arrivals).unwrap();
        let came: Vec<usize> = (0..count).map(|index| arrivals.get(index).unwrap().bytes.len()).collect();
        assert_eq!(came.iter().sum::<usize>(), bytes.len());
    }
}
