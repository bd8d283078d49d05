//! The thread that has the listeners.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::net::UdpSocket;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, LocalSet};
use zeugma_kernel::Exchange;

use super::{Listener, ListenerId, Settings, Shared, udp};

/// What the thread is told. `done` is answered once it is so.
#[derive(Debug)]
pub(super) enum Command {
    Listen { id: ListenerId, listener: Box<Listener>, done: mpsc::Sender<io::Result<()>> },
    Close { id: ListenerId, done: mpsc::Sender<()> },
    End,
}

/// Starts it.
pub(super) fn spawn(
    settings: Settings,
    shared: Arc<Shared>,
) -> io::Result<(UnboundedSender<Command>, JoinHandle<()>)> {
    let (sender, commands) = unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
        let local = LocalSet::new();
        let worker = Worker { settings, shared, exchange: Rc::default(), listeners: HashMap::new() };
        local.block_on(&runtime, worker.run(commands));
    })?;
    Ok((sender, thread))
}

struct Worker {
    #[expect(dead_code, reason = "forwarding comes next")]
    settings: Settings,
    shared: Arc<Shared>,
    exchange: Rc<RefCell<Exchange>>,
    listeners: HashMap<ListenerId, Tasks>,
}

impl Worker {
    async fn run(mut self, mut commands: UnboundedReceiver<Command>) {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Listen { id, listener, done } => {
                    let _ = done.send(self.listen(id, *listener));
                }
                Command::Close { id, done } => {
                    if let Some(tasks) = self.listeners.remove(&id) {
                        tasks.ended().await;
                    }
                    let _ = done.send(());
                }
                Command::End => return,
            }
        }
    }

    fn listen(&mut self, id: ListenerId, listener: Listener) -> io::Result<()> {
        listener.udp.set_nonblocking(true)?;
        listener.tcp.set_nonblocking(true)?;
        let audience = Rc::new(listener.audience);
        let socket = UdpSocket::from_std(listener.udp)?;
        let serve = udp::serve(socket, audience, self.shared.clone(), self.exchange.clone());
        let tasks = Tasks(vec![tokio::task::spawn_local(serve)]);
        self.listeners.insert(id, tasks);
        Ok(())
    }
}

/// A listener's tasks, which own its sockets; aborted when dropped.
struct Tasks(Vec<tokio::task::JoinHandle<()>>);

impl Tasks {
    /// Ends them; their sockets are closed afterwards.
    async fn ended(mut self) {
        for task in std::mem::take(&mut self.0) {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().map(tokio::task::JoinHandle::abort_handle).for_each(|task: AbortHandle| task.abort());
    }
}
