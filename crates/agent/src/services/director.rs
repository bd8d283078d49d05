//! The loop: what changes in the catalogue and in the journal is gathered, programmed, told by name, and answered for.
//!
//! It decides nothing about services (`zeugma-services`) and never waits for the kernel (`programming.rs`). While
//! something is being programmed, what comes is gathered; so a burst is few transactions, and a single change goes at
//! once.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use zeugma_model::{AttachmentId, Deployment, Network, RegisteredEndpoint, ServiceName};
use zeugma_services::{Check, Verdict};

use super::attached::Attached;
use super::checking::Checking;
use super::figures::ServiceFigures;
use super::ground::Attachments;
use super::known::Known;
use super::pace::Pace;
use super::programming::{Done, Kept, Work};
use super::publish::Published;
use super::rollouts::Rollouts;
use super::waiting::{Seen, Waiting};
use super::{Ask, Catalogue};
use crate::follow::{Told, follow};
use crate::reconcile::Message;

/// What is told to the director beside asks and differences of the catalogue.
pub(crate) enum Event {
    /// What the journal has of an attachment now.
    Attached(AttachmentId, Option<Attached>),
    /// All of the journal was told.
    JournalRead,
    /// Who had flows when this agent began, of services that are in the table.
    Served(HashMap<ServiceName, HashSet<IpAddr>>),
    /// Somebody took something out of the table.
    Lost,
    /// Something was programmed, or not.
    Done(Done),
    /// Names are answered as they were told.
    Named,
    /// A step of an exchange could not be written.
    Unwritten(ServiceName),
}

/// Where everything comes from.
pub(super) struct Inlets {
    pub(super) services: mpsc::Receiver<Told<Deployment>>,
    pub(super) endpoints: mpsc::Receiver<Told<RegisteredEndpoint>>,
    pub(super) networks: mpsc::Receiver<Told<Network>>,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) verdicts: mpsc::Receiver<(Check, Verdict)>,
}

impl Inlets {
    pub(super) fn new(
        catalogue: &Catalogue,
        events: mpsc::UnboundedReceiver<Event>,
        asks: mpsc::Receiver<Ask>,
        verdicts: mpsc::Receiver<(Check, Verdict)>,
    ) -> Self {
        let (services, endpoints) = (follow(catalogue), follow(catalogue));
        Self { services, endpoints, networks: follow(catalogue), events, asks, verdicts }
    }
}

/// The loop's state.
pub(super) struct Director {
    known: Known,
    attachments: Attachments,
    ground_changed: bool,
    rollouts: Rollouts,
    checking: Checking,
    /// What was not gathered yet since the beginning.
    missing: Missing,
    recalled: Recalled,
    seen: Seen,
    /// What is being programmed and told.
    flight: Option<Flight>,
    pace: Pace,
    waiting: Waiting,
    figures: watch::Sender<ServiceFigures>,
    works: Sender<Work>,
    events: mpsc::UnboundedSender<Event>,
    loop_: mpsc::Sender<Message>,
    publisher: Option<mpsc::UnboundedSender<Published>>,
}

struct Missing {
    services: bool,
    endpoints: bool,
    networks: bool,
    journal: bool,
    kernel: bool,
}

/// What is known as the agent before this one knew it.
#[derive(Default)]
struct Recalled {
    services: bool,
    endpoints: bool,
}

struct Flight {
    seen: Seen,
    services: Vec<ServiceName>,
    /// Everything, not only what changed.
    is_whole: bool,
}

/// Whom the director tells.
pub(super) struct Outlets {
    pub(super) works: Sender<Work>,
    /// The director itself, for what ends beside it.
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// Who has the names.
    pub(super) loop_: mpsc::Sender<Message>,
    pub(super) figures: watch::Sender<ServiceFigures>,
    /// Who tells other nodes of this one's containers.
    pub(super) publisher: Option<mpsc::UnboundedSender<Published>>,
}

impl Director {
    pub(super) fn new(catalogue: Catalogue, outlets: Outlets, checking: Checking) -> Self {
        let Outlets { works, events, loop_, figures, publisher } = outlets;
        Self {
            known: Known::new(catalogue.node.clone()),
            attachments: Attachments::default(),
            ground_changed: false,
            rollouts: Rollouts::new(catalogue, events.clone()),
            checking,
            missing: Missing { services: true, endpoints: true, networks: true, journal: true, kernel: true },
            recalled: Recalled::default(),
            seen: Seen::default(),
            flight: None,
            pace: Pace::new(),
            waiting: Waiting::default(),
            figures,
            works,
            events,
            loop_,
            publisher,
        }
    }

    /// Turns until it is dropped.
    pub(super) async fn run(mut self, mut inlets: Inlets) {
        loop {
            tokio::select! {
                Some(news) = inlets.services.recv() => self.services_changed(news),
                Some(news) = inlets.endpoints.recv() => self.endpoints_changed(news),
                Some(news) = inlets.networks.recv() => self.networks_changed(news),
                Some(event) = inlets.events.recv() => self.hear(event),
                Some(ask) = inlets.asks.recv() => self.asked(ask),
                Some(verdict) = inlets.verdicts.recv() => self.judge(verdict),
                () = at(self.next_moment()) => {}
            }
            self.take_what_is_there(&mut inlets);
            self.turn(Instant::now());
        }
    }

    /// What came together is done together.
    fn take_what_is_there(&mut self, inlets: &mut Inlets) {
        while let Ok(news) = inlets.services.try_recv() {
            self.services_changed(news);
        }
        while let Ok(news) = inlets.endpoints.try_recv() {
            self.endpoints_changed(news);
        }
        while let Ok(news) = inlets.networks.try_recv() {
            self.networks_changed(news);
        }
        while let Ok(event) = inlets.events.try_recv() {
            self.hear(event);
        }
        while let Ok(verdict) = inlets.verdicts.try_recv() {
            self.judge(verdict);
        }
        while let Ok(ask) = inlets.asks.try_recv() {
            self.asked(ask);
        }
    }

    fn services_changed(&mut self, Told { difference, is_recalled }: Told<Deployment>) {
        self.missing.services = false;
        let was_recalled = std::mem::replace(&mut self.recalled.services, is_recalled);
        self.no_longer_recalled(was_recalled && !is_recalled);
        self.seen.services = self.seen.services.max(difference.revision);
        self.rollouts.services_changed(&difference);
        self.known.services_changed(difference, Instant::now());
    }

    fn endpoints_changed(&mut self, Told { difference, is_recalled }: Told<RegisteredEndpoint>) {
        self.missing.endpoints = false;
        let was_recalled = std::mem::replace(&mut self.recalled.endpoints, is_recalled);
        self.no_longer_recalled(was_recalled && !is_recalled);
        self.seen.endpoints = self.seen.endpoints.max(difference.revision);
        self.known.endpoints_changed(difference, Instant::now());
    }

    /// What other hosts have is known once the first of it was told.
    fn networks_changed(&mut self, Told { difference, .. }: Told<Network>) {
        self.missing.networks = false;
        let gone = difference.deleted.iter().map(|row| (row, None));
        let put = difference.put.iter().map(|(row, network)| (row, Some(&network.value)));
        self.ground_changed |= self.attachments.see_networks(gone.chain(put), &self.known.node);
    }

    /// What was in the kernel and not remembered was left alone: by now it can be told what it is.
    fn no_longer_recalled(&mut self, is_new: bool) {
        if is_new {
            self.pace.lost(Instant::now());
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Attached(id, attached) => self.attached(&id, attached.as_ref()),
            Event::JournalRead => self.missing.journal = false,
            Event::Served(served) => {
                self.missing.kernel = false;
                self.known.roster.put_served(served);
            }
            Event::Lost => self.pace.lost(Instant::now()),
            Event::Done(done) => self.done(&done),
            Event::Named => self.named(),
            Event::Unwritten(service) => self.rollouts.unwritten(&service, Instant::now()),
        }
    }

    fn judge(&mut self, (check, verdict): (Check, Verdict)) {
        self.known.roster.judge(&check, verdict, Instant::now());
    }

    fn attached(&mut self, id: &AttachmentId, attached: Option<&Attached>) {
        if !self.attachments.see(id, attached) {
            return;
        }
        let moved = self.attachments.take_moved();
        if !moved.is_empty() {
            self.ground_changed = true;
            self.known.moved(&moved);
        }
        match attached {
            Some(attached) => self.known.roster.put_candidate(attached.candidate(id), Instant::now()),
            None => self.known.roster.remove_candidate(id),
        }
    }

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Settled(write, told) => self.waiting.settles(write, told, Instant::now()),
            Ask::Service(name, told) => drop(told.send(self.known.view(&name))),
            Ask::Services(after, told) => match after {
                Some(after) if after == self.waiting.state => self.waiting.watches(told),
                _ => drop(told.send((self.waiting.state, self.known.views()))),
            },
        }
    }

    fn next_moment(&self) -> Option<Instant> {
        let moments = [
            self.known.roster.next_change(),
            self.pace.next(),
            self.waiting.patience(),
            self.rollouts.next(),
        ];
        moments.into_iter().flatten().min()
    }

    /// Does what is due, when nothing else is being done.
    fn turn(&mut self, now: Instant) {
        let Missing { services, endpoints, networks, journal, kernel } = self.missing;
        let is_gathered = !(services || endpoints || networks || journal || kernel);
        // Who is there at the beginning is presumed to serve: all of it is put before the roster is asked.
        if is_gathered {
            let changed = self.known.look(now);
            self.checking.changed(&self.known.roster, &changed);
            self.rollouts.turn(&self.known, now);
            if self.flight.is_none() {
                self.begin(now);
            }
        }
        self.waiting.lose_patience(now);
        self.tell_figures();
    }

    /// The next thing to be programmed; when there is nothing, all is as it is to be.
    fn begin(&mut self, now: Instant) {
        if self.pace.is_due(now) {
            self.sync(now);
        } else if self.pace.is_whole() && (self.known.is_dirty() || self.ground_changed) {
            self.change();
        } else if self.pace.is_whole() {
            self.waiting.settled(self.seen, |service| self.known.problems(Some(service)));
        }
    }

    fn sync(&mut self, now: Instant) {
        let (workloads, services) = self.known.all();
        let kept = match self.recalled.services {
            true => Kept::All,
            false => Kept::These(self.known.unreadable()),
        };
        self.pace.syncs(now);
        self.ground_changed = false;
        self.fly(services, Work::Sync(workloads, kept, self.attachments.ground().clone()));
    }

    fn change(&mut self) {
        let wishes = self.known.changed();
        let services = wishes.iter().map(|(name, _)| name.clone()).collect();
        let ground = std::mem::take(&mut self.ground_changed).then(|| self.attachments.ground().clone());
        self.fly(services, Work::Change(wishes, ground));
    }

    fn fly(&mut self, services: Vec<ServiceName>, work: Work) {
        let is_whole = matches!(work, Work::Sync(..));
        self.flight = Some(Flight { seen: self.seen, services, is_whole });
        if self.works.send(work).is_err() {
            let error = Some("the thread that programs services has ended: restart the agent".into());
            self.done(&Done { error, ..Done::default() });
        }
    }

    fn done(&mut self, done: &Done) {
        self.known.done(done);
        self.pace.done(done.error.as_deref(), Instant::now());
        self.figures.send_modify(|figures| figures.count(done));
        let Some(flight) = &mut self.flight else { return };
        let services = std::mem::take(&mut flight.services);
        if let Some(publisher) = &self.publisher {
            for name in &services {
                let _ = publisher.send(self.known.published(name, &self.attachments));
            }
        }
        let names = self.known.names(&services);
        if names.is_empty() {
            return self.named();
        }
        let (loop_, events) = (self.loop_.clone(), self.events.clone());
        tokio::spawn(async move {
            let (told, hears) = oneshot::channel();
            if loop_.send(Message::Services(names, told)).await.is_ok() {
                let _ = hears.await;
            }
            let _ = events.send(Event::Named);
        });
    }

    fn named(&mut self) {
        if let Some(flight) = self.flight.take() {
            let error = self.pace.error().map(str::to_owned);
            let problems = |service: &ServiceName| {
                error.iter().cloned().chain(self.known.problems(Some(service))).collect()
            };
            self.waiting.settled(flight.seen, problems);
            self.waiting.changed(|| self.known.views());
            if flight.is_whole {
                // What all of the catalogue and all names took on their way here is free now.
                zeugma_kernel::give_back_memory();
            }
        }
    }

    fn tell_figures(&self) {
        let problems = || self.pace.error().map(str::to_owned).into_iter().chain(self.known.problems(None));
        let ready = self.pace.is_ready();
        let Recalled { services, endpoints } = self.recalled;
        self.figures.send_if_modified(|figures| {
            let is_recalled = std::mem::replace(&mut figures.recalled, services || endpoints);
            figures.now(self.known.counts(), ready, problems()) || is_recalled != figures.recalled
        });
    }
}

/// At a moment, or never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Longer than a change takes on its way through the catalogue, unless that does not answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeugma_catalogue::{Key, Kind, Table, Transaction};

    use super::*;
    use crate::follow::fixture::{catalogue, replace, write};

    #[tokio::test]
    async fn services_and_endpoints_stay_while_another_catalogue_answers() {
        let root = tempfile::tempdir().unwrap();
        let catalogue = catalogue(root.path()).await;
        let web: Deployment =
            serde_json::from_value(json!({"service": {"name": "web", "ports": [{"port": 80}]}})).unwrap();
        let endpoint: RegisteredEndpoint =
            serde_json::from_value(json!({"service": "web", "endpoint": {"address": "192.0.2.1"}})).unwrap();
        let rows = |begun| {
            let begun = Table::put(begun, "web", &web, None).unwrap();
            Table::put(begun, &endpoint.key(), &endpoint, None).unwrap()
        };
        write(&catalogue, rows(Transaction::new())).await;
        let (events, asks, verdicts) = (mpsc::unbounded_channel().1, mpsc::channel(1).1, mpsc::channel(1).1);
        let mut inlets = Inlets::new(&catalogue, events, asks, verdicts);
        assert!(inlets.services.recv().await.unwrap().difference.put.contains_key("web"));
        assert_eq!(inlets.endpoints.recv().await.unwrap().difference.put.len(), 1);
        let keys = [(Kind::Service, "web"), (Kind::Endpoint, &*endpoint.key())];
        let keys = keys.map(|(kind, name)| Key::new(kind, name).unwrap());
        let back = replace(&catalogue, &keys).await;
        assert!(inlets.services.try_recv().is_err() && inlets.endpoints.try_recv().is_err());
        write(&catalogue, rows(back)).await;
        assert!(inlets.services.recv().await.unwrap().difference.deleted.is_empty());
        assert!(inlets.endpoints.recv().await.unwrap().difference.deleted.is_empty());
    }
}
