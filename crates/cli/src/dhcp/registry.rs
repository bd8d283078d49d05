//! The leases that the daemon keeps, by attachment; each is a task (`keeper`) that is told by messages.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use zeugma_dhcp::{Identity, Pacing, Provided};
use zeugma_ipam::dhcp::protocol::{Answer, Ask, Failure, Provide};
use zeugma_model::AttachmentId;

use super::Flags;
use super::container::Container;
use super::keeper::{Command, Keeper};
use super::record::Records;

/// Settings, and who keeps which lease.
pub(super) struct Registry {
    flags: Flags,
    pub(super) records: Records,
    keepers: RefCell<HashMap<AttachmentId, Entry>>,
}

struct Entry {
    commands: mpsc::UnboundedSender<Command>,
    /// Tells it from one that takes its place.
    number: u64,
}

impl Registry {
    pub(super) fn new(flags: &Flags) -> Self {
        let run_dir = flags.on_host(&zeugma_journal::run_dir());
        let records = Records::new(&run_dir, &flags.socketpath);
        Self { flags: flags.clone(), records, keepers: RefCell::default() }
    }

    pub(super) fn pacing(&self) -> Pacing {
        self.flags.pacing()
    }

    pub(super) fn broadcast(&self) -> bool {
        self.flags.broadcast
    }

    /// Takes up the leases of the daemon before.
    pub(super) fn take_up(self: &Rc<Self>) {
        for (attachment, record) in self.records.load() {
            let commands = self.register(&attachment);
            spawn_local(Keeper::resume(self.clone(), attachment, record, commands));
        }
    }

    pub(super) async fn answer(self: &Rc<Self>, ask: Ask) -> Answer {
        match ask {
            Ask::Acquire { attachment, netns, provide, request } => {
                self.acquire(attachment, &netns, provide, request).await
            }
            Ask::Confirm { attachment } => match self.ask(&attachment, Command::Confirm).await {
                Some((answer, _)) => answer,
                None => no_lease(&attachment),
            },
            Ask::Release { attachment } => {
                self.ask(&attachment, Command::Release).await;
                Answer::Done
            }
            Ask::Retain { network, valid } => {
                let is_stale = |held: &AttachmentId| {
                    held.network == network && !valid.contains(&(held.container.clone(), held.ifname.clone()))
                };
                let stale: Vec<_> =
                    self.keepers.borrow().keys().filter(|held| is_stale(held)).cloned().collect();
                for attachment in stale {
                    self.ask(&attachment, Command::Release).await;
                }
                Answer::Done
            }
            Ask::Status => Answer::Done,
        }
    }

    /// The lease that the attachment has, as long as it is in the same namespace; else a new one.
    async fn acquire(
        self: &Rc<Self>,
        attachment: AttachmentId,
        netns: &Path,
        provide: Vec<Provide>,
        request: Vec<u8>,
    ) -> Answer {
        let container = match Container::at(&self.flags.on_host(netns), &attachment.ifname) {
            Ok(container) => container,
            Err(error) => return failed(Failure::NoInterface, format!("{error:#}")),
        };
        // Before the lease of another namespace is given up: who has it keeps it when this call is refused.
        let interface = container.interface();
        if let Some((answer, held_in)) = self.ask(&attachment, Command::Confirm).await {
            if held_in == Some(container.netns.clone()) || matches!(answer, Answer::Failed { .. }) {
                return answer;
            }
            if interface.is_ok() || !held_in.is_some_and(|netns| netns.is_alive()) {
                self.ask(&attachment, Command::Release).await;
            }
        }
        let (interface, mac) = match interface {
            Ok(found) => found,
            Err(error) => return failed(Failure::NoInterface, format!("{error:#}")),
        };
        let provide = provide.into_iter().map(|Provide { code, value }| Provided { code, value }).collect();
        let broadcast = self.broadcast() || interface.kind == "ipvlan";
        let client_id = Identity::client_id(&attachment);
        let identity = Identity { mac, client_id, provide, request, broadcast };
        let (reply, answer) = oneshot::channel();
        let commands = self.register(&attachment);
        let keeper = Keeper::new(self.clone(), attachment, container, commands);
        spawn_local(keeper.acquire(identity, reply));
        answer.await.unwrap_or_else(|_| failed(Failure::Busy, "another call took this one's place".into()))
    }

    /// Tells the keeper of an attachment; none when there is no keeper.
    async fn ask(
        &self,
        attachment: &AttachmentId,
        command: fn(oneshot::Sender<super::keeper::Reply>) -> Command,
    ) -> Option<super::keeper::Reply> {
        let (reply, answer) = oneshot::channel();
        self.keepers.borrow().get(attachment)?.commands.send(command(reply)).ok()?;
        answer.await.ok()
    }

    fn register(&self, attachment: &AttachmentId) -> Commands {
        let (commands, receiver) = mpsc::unbounded_channel();
        let mut keepers = self.keepers.borrow_mut();
        let number = keepers.values().map(|entry| entry.number + 1).max().unwrap_or(0);
        keepers.insert(attachment.clone(), Entry { commands, number });
        Commands { receiver, number }
    }

    /// Forgets a keeper that has ended, unless another took its place.
    pub(super) fn forget(&self, attachment: &AttachmentId, number: u64) {
        let mut keepers = self.keepers.borrow_mut();
        if keepers.get(attachment).is_some_and(|entry| entry.number == number) {
            keepers.remove(attachment);
        }
    }
}

/// What a keeper is told by.
pub(super) struct Commands {
    pub(super) receiver: mpsc::UnboundedReceiver<Command>,
    pub(super) number: u64,
}

pub(super) fn failed(failure: Failure, message: String) -> Answer {
    Answer::Failed { failure, message }
}

fn no_lease(attachment: &AttachmentId) -> Answer {
    let message = format!(
        "{attachment} has no lease: it expired, or a server refused to renew it (see the daemon's log); \
         delete the container and create it again"
    );
    failed(Failure::NoLease, message)
}
