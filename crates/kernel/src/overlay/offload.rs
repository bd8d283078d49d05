//! Whether checksums of packets in a tunnel are right when they arrive. Some network cards and virtual ones compute them
//! wrong for packets inside of VXLAN: small ones of ICMP pass, whose checksums are the kernel's, and nothing else does.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;
use zeugma_model::IfName;

use crate::Error;
use crate::sys::ethtool;

/// Where nobody listens (`traceroute` begins there): the peer answers that by ICMP.
const PORT: u16 = 33434;
/// How often and how long an answer is waited for. Hosts send such answers no faster than one a second, after a few.
const ATTEMPTS: usize = 3;
const PATIENCE: Duration = Duration::from_millis(500);

/// What became of a look at checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// They arrive as they are to.
    Right,
    /// They did not until the kernel computed them all itself, which it does from now on.
    Mended,
    /// Nothing was answered either way: the peer is away, or drops such datagrams.
    Unknown,
}

/// Whether the link leaves the checksums of packets that it sends to the links below it.
///
/// # Errors
/// When there is no such link.
pub fn offload(link: &IfName) -> Result<bool, Error> {
    let asked = ethtool::tx_checksum(link.as_str());
    asked.map_err(|source| Error::System { action: "ask for a link's offloads", source })
}

/// Turns that on or off: `ethtool -K LINK tx-checksum-ip-generic on|off`.
///
/// # Errors
/// When there is no such link, or it knows no offloads.
pub fn set_offload(link: &IfName, is_on: bool) -> Result<(), Error> {
    let set = ethtool::set_tx_checksum(link.as_str(), is_on);
    set.map_err(|source| Error::System { action: "set a link's offloads", source })
}

/// Sends datagrams with checksums that the network card has to complete to a peer's address on the tunnel. If nothing
/// comes back, and something does with checksums by the kernel, the card computes them wrong: the kernel goes on doing so.
///
/// # Errors
/// When there is no such link, or `from` is no address of this host.
pub async fn probe_checksums(link: &IfName, from: IpAddr, to: IpAddr) -> Result<Checksums, Error> {
    if is_answered(from, to).await? {
        return Ok(Checksums::Right);
    }
    if !offload(link)? {
        return Ok(Checksums::Unknown);
    }
    set_offload(link, false)?;
    let answer = is_answered(from, to).await;
    if matches!(answer, Ok(true)) {
        return Ok(Checksums::Mended);
    }
    set_offload(link, true)?;
    answer.map(|_| Checksums::Unknown)
}

/// Whether the peer says that nobody listens, or somebody answers.
async fn is_answered(from: IpAddr, to: IpAddr) -> Result<bool, Error> {
    let failed = |source| Error::System { action: "send a datagram through a tunnel", source };
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await.map_err(failed)?;
    socket.connect(SocketAddr::new(to, PORT)).await.map_err(failed)?;
    let mut buffer = [0; 64];
    for _ in 0..ATTEMPTS {
        // What is refused at once was answered before.
        let sent = socket.send(b"zeugma: does this arrive?").await;
        let answer = match sent {
            Ok(_) => timeout(PATIENCE, socket.recv(&mut buffer)).await.ok(),
            Err(error) => Some(Err(error)),
        };
        match answer {
            Some(Ok(_)) => return Ok(true),
            Some(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => return Ok(true),
            Some(Err(_)) | None => {}
        }
    }
    Ok(false)
}
