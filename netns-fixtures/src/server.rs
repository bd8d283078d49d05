//! Servers inside a host that say who they are and whom they see. They stop when dropped.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Host;

/// A server thread inside a host; dropping it closes its socket.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Where it listens; tells the port when it was asked for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Binds with `open` inside the host, then answers with `serve` whenever the socket is readable.
    pub(crate) fn start<S: AsFd>(
        host: &Host,
        open: impl FnOnce() -> Result<(S, SocketAddr)> + Send + 'static,
        serve: impl Fn(&S) + Send + 'static,
    ) -> Result<Server> {
        let (stop, stopped) = UnixStream::pair()?;
        let (bound, binding) = mpsc::channel();
        let host = host.clone();
        let thread = thread::spawn(move || match host.join().and_then(|()| open()) {
            Err(error) => drop(bound.send(Err(error))),
            Ok((socket, address)) => {
                let _ = bound.send(Ok(address));
                drop(bound);
                while readable(&socket, &stopped) {
                    serve(&socket);
                }
            }
        });
        let address = binding.recv().map_err(|_| anyhow!("the server thread ended"))??;
        Ok(Server { address, stop: Some(stop), thread: Some(thread) })
    }
}

/// Waits until `socket` has something; false once the other end of `stopped` is closed.
fn readable(socket: &impl AsFd, stopped: &UnixStream) -> bool {
    let mut fds =
        [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
    let woken = poll(&mut fds, PollTimeout::NONE);
    woken.is_ok() && !fds[1].any().unwrap_or(true)
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Host {
    /// Answers each connection to `address` with `NAME PEER-IP` and closes it.
    ///
    /// # Errors
    /// When the address is taken or not of this host.
    pub fn tcp_echo(&self, address: &str, name: &str) -> Result<Server> {
        let (address, name) = (address.to_owned(), name.to_owned());
        let open = move || {
            let listener = TcpListener::bind(&address).with_context(|| format!("listen on tcp {address}"))?;
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        };
        Server::start(self, open, move |listener| {
            // A client that is gone again needs no answer.
            if let Ok((mut stream, peer)) = listener.accept() {
                let _ = stream.write_all(greeting(&name, peer).as_bytes());
                let _ = stream.shutdown(Shutdown::Write);
            }
        })
    }

    /// Answers each datagram to `address` with `NAME PEER-IP`.
    ///
    /// # Errors
    /// When the address is taken or not of this host.
    pub fn udp_echo(&self, address: &str, name: &str) -> Result<Server> {
        let (address, name) = (address.to_owned(), name.to_owned());
        let open = move || {
            let socket = UdpSocket::bind(&address).with_context(|| format!("bind udp {address}"))?;
            let bound = socket.local_addr()?;
            Ok((socket, bound))
        };
        Server::start(self, open, move |socket| {
            if let Ok((_, peer)) = socket.recv_from(&mut [0; 512]) {
                let _ = socket.send_to(greeting(&name, peer).as_bytes(), peer);
            }
        })
    }
}

/// IPv4 peers of a dual-stack socket are shown as IPv4.
pub(crate) fn greeting(name: &str, peer: SocketAddr) -> String {
    format!("{name} {}", peer.ip().to_canonical())
}
