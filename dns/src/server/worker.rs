//! The thread that has the listeners.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_blocking, spawn_local};
use tokio::time::sleep;
use zeugma_kernel::{Exchange, receive_buffer};
use zeugma_model::NetworkName;

use super::handler::Core;
use super::room::Room;
use super::{Listener, ListenerId, LookupError, Shared, lookup, tcp, udp};
use crate::authority::EVERY;
use crate::forward::Forwarder;
use crate::zone::Audience;

/// Bytes of questions that may wait while the thread has no processor: a quarter of a second's at 20,000 a second.
const QUEUE: usize = 4 << 20;

/// What the thread is told. `done` is answered once it is so.
#[derive(Debug)]
pub(super) enum Command {
    Listen {
        id: ListenerId,
        listener: Box<Listener>,
        done: mpsc::Sender<io::Result<()>>,
    },
    Close {
        id: ListenerId,
        done: mpsc::Sender<()>,
    },
    Lookup {
        network: Option<NetworkName>,
        request: Vec<u8>,
        done: oneshot::Sender<Result<Vec<u8>, LookupError>>,
    },
    End,
}

/// Starts it.
pub(super) fn spawn(
    resolv_conf: PathBuf,
    shared: Arc<Shared>,
) -> io::Result<(UnboundedSender<Command>, JoinHandle<()>)> {
    let (sender, commands) = unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
        let forwarder = Rc::new(Forwarder::new(resolv_conf, shared.clone()));
        let worker = Worker {
            core: Core { shared, forwarder },
            exchange: Rc::default(),
            guests: Rc::default(),
            listeners: HashMap::new(),
        };
        LocalSet::new().block_on(&runtime, worker.run(commands));
    })?;
    Ok((sender, thread))
}

struct Worker {
    core: Core,
    exchange: Rc<RefCell<Exchange>>,
    guests: Rc<tcp::Guests>,
    listeners: HashMap<ListenerId, Open>,
}

/// A listener's tasks, which own its sockets.
struct Open {
    tasks: [tokio::task::JoinHandle<()>; 2],
    /// Where it listens in the host's namespace.
    address: Option<SocketAddr>,
}

impl Worker {
    async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        spawn_local(keep_zones(self.core.shared.clone()));
        while let Some(command) = commands.recv().await {
            match command {
                Command::Listen { id, listener, done } => {
                    let _ = done.send(self.listen(id, *listener));
                }
                Command::Close { id, done } => {
                    self.close(id).await;
                    let _ = done.send(());
                }
                Command::Lookup { network, request, done } => {
                    let core = self.core.clone();
                    spawn_local(async move {
                        let _ = done.send(lookup::answer(core, network, &request).await);
                    });
                }
                Command::End => return,
            }
        }
    }

    fn listen(&mut self, id: ListenerId, listener: Listener) -> io::Result<()> {
        listener.udp.set_nonblocking(true)?;
        listener.tcp.set_nonblocking(true)?;
        // Without it a busy host loses questions; where it is not allowed, the kernel's default has to do.
        let _ = receive_buffer(&listener.udp, QUEUE);
        let address = match listener.audience {
            Audience::Network(_) => Some(listener.udp.local_addr()?),
            // 127.0.0.11 of a container is nothing that the host could ask.
            Audience::Container(_) => None,
        };
        let room = Room { audience: Rc::new(listener.audience), id };
        let (core, guests) = (self.core.clone(), self.guests.clone());
        let socket = UdpSocket::from_std(listener.udp)?;
        let datagrams = udp::Port { core: core.clone(), socket, room: room.clone() };
        let streams = tcp::Port { core, listener: TcpListener::from_std(listener.tcp)?, room, guests };
        let tasks = [spawn_local(datagrams.serve(self.exchange.clone())), spawn_local(streams.serve())];
        if let Some(address) = address {
            self.core.forwarder.avoid(address);
        }
        self.listeners.insert(id, Open { tasks, address });
        Ok(())
    }

    /// Ends the tasks; their sockets are closed afterwards.
    async fn close(&mut self, id: ListenerId) {
        let Some(open) = self.listeners.remove(&id) else { return };
        if let Some(address) = open.address {
            self.core.forwarder.stop_avoiding(address);
        }
        for task in open.tasks {
            task.abort();
            let _ = task.await;
        }
    }
}

/// Reads files of zones again, on a thread of its own: questions do not wait for the disk.
async fn keep_zones(shared: Arc<Shared>) {
    while !shared.zones.is_empty() {
        sleep(EVERY).await;
        let shared = shared.clone();
        if spawn_blocking(move || shared.zones.look()).await.is_err() {
            return;
        }
    }
}
