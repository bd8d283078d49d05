//! Waits for notifications of the kernel that something of ours may be gone. What it is, whoever waits finds out.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::channel::{Answer, messages};
use crate::netfilter::watch::{self as nftables, Touched, Transactions};
use crate::route::watch as links;
use crate::{Error, sys};

/// Bytes that may wait until they are read: the changes of some thousand elements.
const BUFFER: usize = 4 << 20;
/// One datagram.
const DATAGRAM: usize = 64 << 10;

/// What may have changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// Our tables.
    pub ruleset: bool,
    /// The table of services.
    pub services: bool,
    /// Links, addresses and routes.
    pub links: bool,
    /// Somebody woke whoever waits.
    pub woken: bool,
}

impl Changes {
    /// Whether there is anything.
    pub fn any(self) -> bool {
        self.ruleset || self.services || self.links || self.woken
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            ruleset: self.ruleset || other.ruleset,
            services: self.services || other.services,
            links: self.links || other.links,
            woken: self.woken || other.woken,
        }
    }
}

/// Ends somebody's wait.
#[derive(Debug)]
pub struct Waker(UnixStream);

impl Waker {
    /// Once for all that wait; a wake that nobody waited for is not lost.
    pub fn wake(&self) {
        // A full pipe wakes as well.
        let _ = (&self.0).write(&[0]);
    }

    /// Another hand on the same.
    ///
    /// # Errors
    /// When this process has too many files open.
    pub fn again(&self) -> Result<Self, Error> {
        let copy = self.0.try_clone();
        Ok(Self(copy.map_err(|source| Error::System { action: "copy a socket", source })?))
    }
}

/// Sockets that hear of changes in the namespace that they were opened in.
pub struct Watch {
    netfilter: Socket,
    route: Socket,
    woken: UnixStream,
    transactions: Transactions,
}

impl Watch {
    /// Listens from here on.
    ///
    /// # Errors
    /// When the kernel has no nfnetlink, or too many files are open.
    pub fn open() -> Result<(Self, Waker), Error> {
        let failed = |source| Error::System { action: "listen to the kernel's notifications", source };
        let netfilter = listening(NETLINK_NETFILTER, &[nftables::GROUP]).map_err(failed)?;
        let route = listening(NETLINK_ROUTE, &links::GROUPS).map_err(failed)?;
        let (waker, woken) = UnixStream::pair().map_err(failed)?;
        for end in [&waker, &woken] {
            end.set_nonblocking(true).map_err(failed)?;
        }
        Ok((Self { netfilter, route, woken, transactions: Transactions::default() }, Waker(waker)))
    }

    /// Waits for the next changes, and no longer than `patience`: then there are none.
    ///
    /// # Errors
    /// When a socket breaks.
    pub fn wait(&mut self, patience: Duration) -> Result<Changes, Error> {
        let failed = |source| Error::System { action: "wait for the kernel's notifications", source };
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let borrowed = [fd(&self.netfilter), fd(&self.route), self.woken.as_fd()];
        let mut waiting = borrowed.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut waiting, patience) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Changes::default()),
            Err(errno) => return Err(failed(errno.into())),
        }
        let [ruleset, links, woken] = waiting.map(|fd| fd.any().unwrap_or(true));
        let mut changes = Changes::default();
        if ruleset {
            let transactions = &mut self.transactions;
            let mut touched = Touched::default();
            let is_lost = drain(&self.netfilter, |message| touched |= transactions.read(message));
            let is_lost = is_lost.map_err(failed)?;
            (changes.ruleset, changes.services) = (touched.ours || is_lost, touched.services || is_lost);
        }
        if links {
            let mut heard = false;
            let is_lost = drain(&self.route, |message| heard |= links::is_loss(message)).map_err(failed)?;
            changes.links = heard || is_lost;
        }
        if woken {
            while (&self.woken).read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
            changes.woken = true;
        }
        Ok(changes)
    }
}

pub(crate) fn listening(protocol: isize, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    sys::receive_buffer(socket.as_raw_fd(), BUFFER)?;
    socket.bind_auto()?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn fd(socket: &Socket) -> BorrowedFd<'_> {
    sys::borrow(socket)
}

/// Reads all that waits. Whether something was lost on the way: then all may have changed.
pub(crate) fn drain(socket: &Socket, mut hear: impl FnMut(&[u8])) -> io::Result<bool> {
    let mut buffer = Vec::with_capacity(DATAGRAM);
    let mut is_lost = false;
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, 0) {
            Ok(_) => {
                for incoming in messages(&buffer) {
                    if let Answer::Message(message) = incoming.answer {
                        hear(message);
                    }
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => is_lost = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(is_lost),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
