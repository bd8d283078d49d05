//! Streams: RFC 7766. Each connection is a task that waits for nobody but its own peer, and not for long.
//!
//! Questions may come one behind the other without waiting for answers; answers go back as they are ready.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::handler::{Core, Reply, Transport};
use super::room::{Asker, Room};
use crate::forward::Client;
use crate::zone::Audience;

/// Connections of all clients.
const CONNECTIONS: usize = 256;
/// Connections of one client.
const CONNECTIONS_PER_CLIENT: usize = 16;
/// A peer may be silent for so long between two questions.
const IDLE: Duration = Duration::from_secs(10);
/// A question that has begun has to be there by then, and an answer has to be taken by then.
const SLOW: Duration = Duration::from_secs(5);
/// The longest question. Nothing that is served takes more.
const QUESTION: usize = 4096;
/// Answers of one connection that are being made or wait to be taken; then nothing more is read.
const PIPELINE: usize = 16;
/// After accept(2) failed, for lack of descriptors, say: the connection is still there, but trying at once is in vain.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections each client has.
#[derive(Default)]
pub(super) struct Guests(RefCell<HashMap<Client, usize>>);

/// One listening socket.
pub(super) struct Port {
    pub(super) core: Core,
    pub(super) listener: TcpListener,
    pub(super) room: Room,
    pub(super) guests: Rc<Guests>,
}

impl Port {
    /// Serves the socket until the task is aborted; its connections end with it.
    pub(super) async fn serve(self) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let Some(guest) = self.admit(peer.ip()) {
                        connections.spawn_local(guest.serve(stream, self.room.clone()));
                    }
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Whether there is room for one more of this client's; strangers have none.
    fn admit(&self, address: IpAddr) -> Option<Guest> {
        let counters = &self.core.shared.counters;
        let is_stranger = self.core.shared.snapshot.load().view(&self.room.audience, address).is_none();
        let client = self.room.client(address);
        let mut guests = self.guests.0.borrow_mut();
        let others: usize = guests.values().sum();
        let own = guests.entry(client).or_default();
        if is_stranger || others >= CONNECTIONS || *own >= CONNECTIONS_PER_CLIENT {
            if *own == 0 {
                guests.remove(&client);
            }
            counters.tcp_refused.add(1);
            return None;
        }
        *own += 1;
        counters.tcp_connections.add(1);
        counters.tcp_open.add(1);
        Some(Guest { core: self.core.clone(), guests: self.guests.clone(), address, client })
    }
}

/// A connection's place; free when dropped.
struct Guest {
    core: Core,
    guests: Rc<Guests>,
    address: IpAddr,
    client: Client,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.core.shared.counters.tcp_open.subtract(1);
        let mut guests = self.guests.0.borrow_mut();
        if let Some(count) = guests.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                guests.remove(&self.client);
            }
        }
    }
}

impl Guest {
    /// Ends when the peer has closed and has all answers, or does not do its part.
    async fn serve(self, stream: TcpStream, room: Room) {
        let (reader, writer) = stream.into_split();
        let (answers, ready) = channel(PIPELINE);
        let mut writing = Box::pin(write(writer, ready));
        let end = tokio::select! {
            // Whoever does not take answers does not get to ask.
            end = &mut writing => end,
            end = self.read(reader, answers, &room.audience) => match end {
                Ok(()) => writing.await,
                Err(error) => Err(error),
            },
        };
        if end.is_err() {
            self.core.shared.counters.tcp_cut.add(1);
        }
    }

    /// Reads until the peer has no more questions. `answers` is dropped then, and with the last answer that is still
    /// being made, writing ends, too.
    async fn read(
        &self,
        mut from: OwnedReadHalf,
        answers: Sender<Vec<u8>>,
        audience: &Rc<Audience>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        while let Some(request) = question(&mut from).await? {
            self.core.shared.counters.tcp_queries.add(1);
            // Waits as long as too many answers wait.
            let place = answers.clone().reserve_owned().await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            let snapshot = self.core.shared.snapshot.load();
            let asker = (snapshot.view(audience, self.address), self.client);
            match self.core.answer(asker, &request, &mut buffer, Transport::Tcp) {
                Reply::None => return Err(io::ErrorKind::InvalidData.into()),
                Reply::Ready(length) => drop(place.send(framed(&buffer[..length]))),
                Reply::Later(later) => {
                    let (core, asker) = (self.core.clone(), Asker::At(audience.clone(), self.address));
                    spawn_local(async move {
                        let given = core.given(later, &request, &asker).await;
                        let mut buffer = vec![0; usize::from(u16::MAX)];
                        let length = core.relay(&request, &given, &mut buffer, Transport::Tcp);
                        place.send(framed(&buffer[..length]));
                    });
                }
            }
        }
        Ok(())
    }
}

/// The next question; none when the peer has closed its side between two.
async fn question(from: &mut OwnedReadHalf) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match in_time(IDLE, from.read_exact(&mut length)).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = usize::from(u16::from_be_bytes(length));
    if length > QUESTION {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut request = vec![0; length];
    in_time(SLOW, from.read_exact(&mut request)).await?;
    Ok(Some(request))
}

async fn write(mut to: OwnedWriteHalf, mut ready: Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(answer) = ready.recv().await {
        in_time(SLOW, to.write_all(&answer)).await?;
    }
    Ok(())
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// With its length in front: RFC 1035, 4.2.2.
fn framed(answer: &[u8]) -> Vec<u8> {
    let length = u16::try_from(answer.len()).unwrap_or_default().to_be_bytes();
    [&length[..], answer].concat()
}
