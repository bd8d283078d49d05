//! Real traffic as an oracle: questions over TCP and UDP, ping, and waiting for a condition.
//! Everything has a deadline of a second. The answering side is `server.rs`.

use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Host;

/// How long a question waits for its answer: long enough for one lost packet, which TCP repeats after a second.
/// That the first packet of a fresh container is not lost is a promise of its own, tested by `ping`.
pub(crate) const PATIENCE: Duration = Duration::from_millis(2200);

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The other side said no: a reset, or an ICMP port unreachable.
    #[error("refused")]
    Refused,
    /// Nothing came within a second.
    #[error("no answer within {PATIENCE:?}")]
    Timeout,
    /// There is no way to the address.
    #[error("unreachable: {0}")]
    Unreachable(#[source] io::Error),
    /// Anything else.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// The address is malformed.
    #[error("{0:?} is no IP:PORT")]
    Address(String),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> AskError {
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => AskError::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => AskError::Timeout,
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                AskError::Unreachable(error)
            }
            _ => AskError::Io(error),
        }
    }
}

impl AskError {
    /// Whether the other side said no.
    pub fn is_refused(&self) -> bool {
        matches!(self, AskError::Refused)
    }

    /// Whether nothing came back.
    pub fn is_timeout(&self) -> bool {
        matches!(self, AskError::Timeout)
    }
}

impl Host {
    /// Connects to `address` (`192.0.2.1:80`, `[2001:db8::1]:80`) from this host and returns what is sent
    /// until the end: from [`Host::tcp_echo`] the server's name and our address as it sees it.
    ///
    /// # Errors
    /// The reason for no answer.
    pub fn ask_tcp(&self, address: &str) -> Result<String, AskError> {
        let address = parse(address)?;
        self.inside(move || {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }

    /// Sends one datagram to `address` and returns the answer, which must come from there.
    ///
    /// # Errors
    /// The reason for no answer.
    pub fn ask_udp(&self, address: &str) -> Result<String, AskError> {
        self.ask_udp_from(0, address)
    }

    /// [`Host::ask_udp`] from a fixed source port, as a client does that keeps one flow alive.
    ///
    /// # Errors
    /// The reason for no answer.
    pub fn ask_udp_from(&self, port: u16, address: &str) -> Result<String, AskError> {
        let address = parse(address)?;
        self.inside(move || {
            let socket = match address {
                SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?,
                SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?,
            };
            socket.connect(address)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send(b"?")?;
            let mut answer = [0; 512];
            let length = socket.recv(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
        })
    }

    pub(crate) fn inside<T: Send>(
        &self,
        ask: impl FnOnce() -> Result<T, AskError> + Send,
    ) -> Result<T, AskError> {
        self.enter(|| Ok(ask())).unwrap_or_else(|error| Err(AskError::Io(io::Error::other(error))))
    }

    /// One echo request, one reply.
    ///
    /// # Errors
    /// When no reply comes within a second.
    pub fn ping(&self, address: &str) -> Result<()> {
        self.run(["ping", "-n", "-q", "-c", "1", "-W", "1", address]).map(drop)
    }
}

pub(crate) fn parse(address: &str) -> Result<SocketAddr, AskError> {
    address.parse().map_err(|_| AskError::Address(address.into()))
}

/// Waits until `condition` holds, at most `deadline`; returns whether it came to hold.
pub fn eventually(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
}
