//! The task of one lease: gets it, keeps it, gives it back. Carries out what the state machine says.

use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;
use zeugma_dhcp::{Client, Effect, Identity, Lease, Loss, Moment, Outgoing};
use zeugma_ipam::dhcp::protocol::{Answer, Failure, RESULT};
use zeugma_journal::{NetnsRef, boot_id};
use zeugma_kernel::since_boot;
use zeugma_model::{AttachmentId, Mac};

use super::container::{Container, Wire};
use super::record::Record;
use super::registry::{Commands, Registry, failed};

/// The answer, and the namespace that the lease is in, if there is a lease.
pub(super) type Reply = (Answer, Option<NetnsRef>);

/// What a keeper is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Say what is leased.
    Confirm(oneshot::Sender<Reply>),
    /// Give it back and end.
    Release(oneshot::Sender<Reply>),
}

/// A lease and all that is needed to keep it.
pub(super) struct Keeper {
    registry: Rc<Registry>,
    attachment: AttachmentId,
    container: Container,
    commands: Commands,
    wire: Option<Wire>,
    /// Who waits for the lease.
    waiting: Option<oneshot::Sender<Answer>>,
}

enum Input {
    Command(Option<Command>),
    /// Who waited for the lease hung up.
    Abandoned,
    Packet(std::io::Result<(Vec<u8>, Mac)>),
    Time,
}

/// Sleeping machines stop the timers' clock but not the leases': look at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(300);

impl Keeper {
    pub(super) fn new(
        registry: Rc<Registry>,
        attachment: AttachmentId,
        container: Container,
        commands: Commands,
    ) -> Self {
        Self { registry, attachment, container, commands, wire: None, waiting: None }
    }

    /// Gets a lease, tells who waits for it, and keeps it.
    pub(super) async fn acquire(mut self, identity: Identity, waiting: oneshot::Sender<Answer>) {
        self.waiting = Some(waiting);
        match self.ready().await {
            Ok(()) => {
                let client = Client::new(identity.clone(), self.registry.pacing(), now());
                self.keep(client, &identity).await;
            }
            Err(error) => self.tell(failed(Failure::NoInterface, format!("{error:#}"))),
        }
        self.end();
    }

    /// Takes up a lease of the daemon before.
    pub(super) async fn resume(
        registry: Rc<Registry>,
        attachment: AttachmentId,
        record: Record,
        commands: Commands,
    ) {
        let Record { netns, mut identity, lease, .. } = record;
        let container = Container::again(netns, &attachment.ifname);
        let mut keeper = Self::new(registry, attachment, container, commands);
        if keeper.container.is_gone() {
            keeper.desert();
            return keeper.end();
        }
        // `tuning` may have given it another Ethernet address since.
        identity.mac = keeper.container.interface().map_or(identity.mac, |(_, mac)| mac);
        keeper.log(&format!("takes up the lease of {}", lease.terms.address));
        let held = lease.clone();
        let (mut client, effects) = Client::resume(identity.clone(), keeper.registry.pacing(), lease, now());
        keeper.carry_out(&mut client, &identity, effects, Some(&held));
        keeper.keep(client, &identity).await;
        keeper.end();
    }

    /// Sets the interface up and waits a moment for it to carry packets; what is sent before is lost.
    async fn ready(&self) -> anyhow::Result<()> {
        const LOOKS: u32 = 100;
        const PAUSE: Duration = Duration::from_millis(5);
        if !self.container.interface()?.0.up {
            self.container.set_up()?;
        }
        for _ in 0..LOOKS {
            if self.container.interface()?.0.carries {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Until the client has ended.
    async fn keep(&mut self, mut client: Client, identity: &Identity) {
        while !client.has_ended() {
            let before = client.lease().cloned();
            let effects = match self.input(&client).await {
                Input::Command(Some(Command::Confirm(reply))) => {
                    let _ = reply.send(self.confirm(client.lease()));
                    continue;
                }
                Input::Command(Some(Command::Release(reply))) => {
                    self.release(&mut client);
                    // Whoever asks next must not find the lease.
                    self.end();
                    let _ = reply.send((Answer::Done, None));
                    return;
                }
                Input::Command(None) | Input::Abandoned => return self.release(&mut client),
                Input::Time if self.container.is_gone() => return self.desert(),
                Input::Time => client.advance(now()),
                Input::Packet(Ok((packet, from))) => client.receive(&packet, from, now()),
                Input::Packet(Err(_)) => {
                    // The interface went down: it is opened again for the next message.
                    self.wire = None;
                    continue;
                }
            };
            self.carry_out(&mut client, identity, effects, before.as_ref());
        }
    }

    async fn input(&mut self, client: &Client) -> Input {
        let due = client.due().map(|due| due.saturating_sub(since_boot()).min(LONGEST_SLEEP));
        let is_awaited = self.waiting.is_some();
        tokio::select! {
            command = self.commands.receiver.recv() => Input::Command(command),
            () = closed(self.waiting.as_mut()), if is_awaited => Input::Abandoned,
            packet = received(self.wire.as_ref()) => Input::Packet(packet),
            () = tokio::time::sleep(due.unwrap_or(LONGEST_SLEEP)) => Input::Time,
        }
    }

    fn carry_out(
        &mut self,
        client: &mut Client,
        identity: &Identity,
        effects: Vec<Effect>,
        before: Option<&Lease>,
    ) {
        for effect in effects {
            match effect {
                Effect::Send(outgoing) => self.send(&outgoing),
                Effect::Granted => self.granted(client, identity, before),
                Effect::Lost(loss) => self.lost(&loss, before),
                Effect::GaveUp => self.gave_up(),
            }
        }
        if !client.listens() {
            self.wire = None;
        }
    }

    /// What is not sent now is sent again by the client.
    fn send(&mut self, outgoing: &Outgoing) {
        if self.wire.is_none() {
            self.wire = self.container.wire().inspect_err(|error| self.log(&format!("{error:#}"))).ok();
        }
        if let Some(wire) = &self.wire
            && let Err(error) = wire.send(outgoing)
        {
            self.log(&format!("cannot send: {error}"));
            self.wire = None;
        }
    }

    fn granted(&mut self, client: &mut Client, identity: &Identity, before: Option<&Lease>) {
        let Some(lease) = client.lease().cloned() else { return };
        let terms = &lease.terms;
        if terms.network().is_none() {
            let message = format!(
                "the server {} gave {} without a subnet mask: correct its configuration, or ask for the option subnet-mask",
                terms.server, terms.address
            );
            self.log(&message);
            self.tell(failed(Failure::Unusable, message));
            return self.release(client);
        }
        let verb = if before.is_some_and(|before| before.terms == *terms) { "renewed" } else { "leased" };
        self.log(&format!("{verb} {} from {} for {} s", terms.address, terms.server, terms.lease));
        let record = Record {
            boot: boot_id().unwrap_or_default(),
            netns: self.container.netns.clone(),
            identity: identity.clone(),
            lease: lease.clone(),
        };
        if let Err(error) = self.registry.records.write(&self.attachment, &record) {
            self.log(&format!("the lease will not survive a restart: {error:#}"));
        }
        self.tell(shown(&lease));
    }

    /// RFC 2131, 4.4.5: the address must not be used any more.
    fn lost(&self, loss: &Loss, before: Option<&Lease>) {
        let why = match loss {
            Loss::Expired => "expired and nobody renewed it".to_owned(),
            Loss::Refused(None) => "was refused by the server".to_owned(),
            Loss::Refused(Some(words)) => format!("was refused by the server: {words}"),
            Loss::Changed(other) => format!("was to be exchanged for {other}"),
        };
        let Some(terms) = before.map(|lease| &lease.terms) else { return };
        self.log(&format!("the lease of {} {why}; the address is taken off the interface", terms.address));
        let taken = terms.network().map_or(Ok(()), |address| self.container.take_away(address));
        if let Err(error) = taken {
            self.log(&format!("cannot take {} off the interface: {error:#}", terms.address));
        }
    }

    fn gave_up(&mut self) {
        let message = format!(
            "no DHCP server granted an address to {} in {} s: is there one on its network, with free addresses? \
             The daemon's flag --resendtimeout sets the time",
            self.attachment,
            self.registry.pacing().give_up.as_secs_f32()
        );
        self.log(&message);
        self.tell(failed(Failure::Timeout, message));
    }

    fn release(&mut self, client: &mut Client) {
        let address = client.lease().map(|lease| lease.terms.address);
        let (Some(outgoing), Some(address)) = (client.release(now()), address) else { return };
        if self.container.netns.is_alive() {
            self.send(&outgoing);
            self.log(&format!("released {address}"));
        } else {
            self.log(&format!("dropped {address}: the container's namespace is gone"));
        }
    }

    /// The container was removed without DEL: nobody is left who could tell the server.
    fn desert(&mut self) {
        self.log("drops its lease: namespace or interface are gone");
        self.tell(failed(Failure::NoInterface, "the interface went away while it was asked for".into()));
    }

    fn confirm(&self, lease: Option<&Lease>) -> Reply {
        match lease {
            Some(lease) => (shown(lease), Some(self.container.netns.clone())),
            None => {
                let message = format!("{} is being asked for already: try again later", self.attachment);
                (failed(Failure::Busy, message), None)
            }
        }
    }

    fn tell(&mut self, answer: Answer) {
        if let Some(waiting) = self.waiting.take() {
            let _ = waiting.send(answer);
        }
    }

    fn end(&mut self) {
        if let Err(error) = self.registry.records.remove(&self.attachment) {
            self.log(&format!("{error:#}"));
        }
        self.registry.forget(&self.attachment, self.commands.number);
    }

    fn log(&self, what: &str) {
        eprintln!("zeugma dhcp: {}: {what}", self.attachment);
    }
}

fn shown(lease: &Lease) -> Answer {
    match lease.terms.result().map(|result| result.to_json(RESULT)) {
        Some(Ok(result)) => Answer::Lease { result },
        Some(Err(_)) | None => failed(Failure::Unusable, "the lease has no subnet mask".into()),
    }
}

fn now() -> Moment {
    // Without randomness, transactions of one moment look alike: no harm on a link of one's own.
    Moment { now: since_boot(), random: getrandom::u64().unwrap_or_default() }
}

async fn closed(waiting: Option<&mut oneshot::Sender<Answer>>) {
    match waiting {
        Some(waiting) => waiting.closed().await,
        None => pending().await,
    }
}

async fn received(wire: Option<&Wire>) -> std::io::Result<(Vec<u8>, Mac)> {
    match wire {
        Some(wire) => wire.receive().await,
        None => pending().await,
    }
}
