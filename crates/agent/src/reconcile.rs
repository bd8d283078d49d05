//! The loop: journal → desired → diff → apply, for one attachment when somebody says so, for all of them at the
//! start and every half minute. It alone changes anything, so that nothing has to be locked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use zeugma_dns::server::{Audience, Resolver};
use zeugma_dns::zone::{NamedService, Snapshot};
use zeugma_journal::{Error, Journal, NetnsRef};
use zeugma_kernel::SocketPair;
use zeugma_model::{AttachmentId, NetworkName, ServiceName};

use crate::desired::listeners::{Place, conflict};
use crate::desired::{Change, Changes, Desired, HostLink};
use crate::figures::Figures;
use crate::handover::Inherited;
use crate::listeners::Listeners;
use crate::scan;
use crate::services::Telling;
use crate::whole::Whole;

/// How often the whole journal is compared with what is served, whatever was told.
const WHOLE_DIFF: Duration = Duration::from_secs(30);
/// How often it is asked whether containers with a socket of ours still live.
const DEATHS: Duration = Duration::from_secs(5);
/// A plugin writes several records in a row: changes of files are looked at together, this long after the first.
const GATHER: Duration = Duration::from_millis(20);

/// What the loop is told.
pub(crate) enum Message {
    /// Look at an attachment; told once names and listeners are as the journal says.
    Sync(AttachmentId, oneshot::Sender<Settling>),
    /// Files of an attachment changed.
    Changed(AttachmentId),
    /// More files changed than anybody can say.
    Lost,
    /// All attachments that the journal has.
    Listed(Result<Vec<AttachmentId>, Error>),
    /// A listener's sockets.
    Opened {
        place: Place,
        audience: Audience,
        pair: Result<(SocketPair, Option<NetnsRef>), zeugma_kernel::Error>,
    },
    /// What is wrong.
    Problems(oneshot::Sender<Vec<String>>),
    /// What is answered.
    Names(oneshot::Sender<Names>),
    /// Services changed; told the generation that has all of it.
    Services(Vec<ServiceNames>, oneshot::Sender<u64>),
}

/// A service by name, as the resolver is to answer for it from now on.
pub(crate) enum ServiceNames {
    /// It is new, or another than before.
    Put(NamedService),
    /// It is no more.
    Gone(ServiceName),
}

/// A generation that is answered from, and the listeners that are about to open.
pub(crate) struct Settling {
    pub(crate) generation: u64,
    pub(crate) listeners: Vec<oneshot::Receiver<()>>,
}

/// What is answered now.
pub(crate) struct Names {
    pub(crate) generation: u64,
    pub(crate) snapshot: Snapshot,
    /// Networks and where their members ask.
    pub(crate) listeners: BTreeMap<NetworkName, Vec<SocketAddr>>,
}

/// Whom the loop tells.
pub(crate) struct Outlets {
    pub(crate) resolver: Arc<Resolver>,
    /// The host's own resolver.
    pub(crate) host: Sender<Vec<HostLink>>,
    pub(crate) figures: watch::Sender<Figures>,
    pub(crate) services: Telling,
}

/// The loop's state.
pub(crate) struct Reconciler {
    journal: Journal,
    outlets: Outlets,
    host_links: Vec<HostLink>,
    desired: Desired,
    snapshot: Snapshot,
    listeners: Listeners,
    conflicts: BTreeSet<String>,
    /// Attachments whose files changed.
    changed: BTreeSet<AttachmentId>,
    /// The comparison with the whole journal, while there is one.
    whole: Option<Whole>,
    loop_: mpsc::Sender<Message>,
    now: Figures,
}

impl Reconciler {
    pub(crate) fn new(
        journal: Journal,
        outlets: Outlets,
        loop_: mpsc::Sender<Message>,
        inherited: Inherited,
    ) -> Self {
        Self {
            journal,
            listeners: Listeners::new(outlets.resolver.clone(), inherited, loop_.clone()),
            outlets,
            host_links: Vec::new(),
            desired: Desired::default(),
            snapshot: Snapshot::default(),
            conflicts: BTreeSet::new(),
            changed: BTreeSet::new(),
            whole: None,
            loop_,
            now: Figures::default(),
        }
    }

    /// Turns until it is dropped.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut whole = interval(WHOLE_DIFF);
        whole.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deaths = interval(DEATHS);
        deaths.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut alive, mut gathered) = (crate::lifetime::watchdog(), None);
        loop {
            let retry = self.listeners.next_retry();
            tokio::select! {
                Some(message) = inbox.recv() => self.hear(message),
                _ = whole.tick() => self.list_all(),
                _ = deaths.tick() => self.listeners.leave_the_dead(),
                () = yield_now(), if self.whole.as_ref().is_some_and(Whole::is_listed) => self.look_at_more(),
                () = at(retry) => self.listeners.retry(&self.desired, Instant::now()),
                () = at(gathered) => self.look_at_changed(),
                _ = alive.tick() => crate::lifetime::is_alive(),
            }
            gathered = match (self.changed.is_empty(), gathered) {
                (true, _) => None,
                (false, None) => Some(Instant::now() + GATHER),
                (false, already) => already,
            };
            self.tell_figures();
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Sync(id, told) => {
                let places = self.look_at(&id);
                let settling = Settling {
                    generation: self.now.generation,
                    listeners: self.listeners.settled(places.into_iter()),
                };
                // A plugin that waits no more has heard enough.
                let _ = told.send(settling);
            }
            Message::Changed(id) => drop(self.changed.insert(id)),
            Message::Lost => self.list_all(),
            Message::Listed(ids) => self.listed(ids),
            Message::Opened { place, audience, pair } => self.listeners.opened(&place, &audience, pair),
            Message::Problems(told) => drop(told.send(self.problems())),
            Message::Names(told) => drop(told.send(self.names())),
            Message::Services(changes, told) => drop(told.send(self.name_services(changes))),
        }
    }

    fn look_at_changed(&mut self) {
        for id in std::mem::take(&mut self.changed) {
            self.look_at(&id);
        }
    }

    /// Reads an attachment's records and acts on them; says which listeners that concerned.
    fn look_at(&mut self, id: &AttachmentId) -> BTreeSet<Place> {
        self.changed.remove(id);
        let changes = self.read(id);
        self.act_on(changes)
    }

    /// Starts to compare with the whole journal.
    fn list_all(&mut self) {
        let begin = || Whole::begin(self.journal.clone(), self.loop_.clone());
        self.whole.get_or_insert_with(begin);
    }

    fn listed(&mut self, ids: Result<Vec<AttachmentId>, Error>) {
        match (ids, &mut self.whole) {
            (Ok(ids), Some(whole)) => whole.listed(ids, self.desired.attachments()),
            (Ok(_), None) => {}
            (Err(error), _) => {
                self.whole = None;
                tracing::warn!(%error, "the journal cannot be read");
            }
        }
    }

    fn look_at_more(&mut self) {
        let some = self.whole.as_mut().map(Whole::some).unwrap_or_default();
        let changes: Vec<_> = some.iter().filter_map(|id| self.read(id)).collect();
        if self.now.last_diff.is_some() {
            self.now.missed += changes.iter().filter(|changes| !changes.zone.is_empty()).count() as u64;
        }
        self.act_on(changes);
        if let Some(took) = self.whole.as_ref().and_then(Whole::took) {
            self.whole = None;
            self.listeners.close_inherited();
            self.outlets.services.all_told();
            self.now.last_diff = Some(SystemTime::now());
            self.now.last_diff_took = took;
            zeugma_kernel::give_back_memory();
        }
    }

    /// What changes by an attachment's records as they are now.
    fn read(&mut self, id: &AttachmentId) -> Option<Changes> {
        match scan::one(&self.journal, id) {
            Ok((seen, attached)) => {
                self.outlets.services.tell(id, attached);
                Some(self.desired.see(id, seen))
            }
            Err(error) => {
                tracing::warn!(attachment = %id, %error, "names stay as they were");
                None
            }
        }
    }

    /// Publishes names at once, then opens and closes listeners.
    fn act_on(&mut self, changes: impl IntoIterator<Item = Changes>) -> BTreeSet<Place> {
        let mut places = BTreeSet::new();
        let generation = self.now.generation;
        for changes in changes {
            for change in changes.zone {
                self.snapshot = applied(&self.snapshot, change);
                self.now.generation = generation + 1;
            }
            places.extend(changes.places);
        }
        if self.now.generation != generation {
            self.outlets.resolver.publish(self.snapshot.clone());
            self.tell_host();
        }
        for place in &places {
            self.listeners.reconcile(&self.desired, place);
            self.note_conflict(place);
        }
        places
    }

    /// Publishes what changed of services, all of it at once; the generation that has it.
    fn name_services(&mut self, changes: Vec<ServiceNames>) -> u64 {
        if !changes.is_empty() {
            changes.into_iter().for_each(|change| apply_service(&mut self.snapshot, change));
            self.now.generation += 1;
            self.outlets.resolver.publish(self.snapshot.clone());
        }
        self.now.generation
    }

    fn tell_host(&mut self) {
        let links = self.desired.host_links();
        if links != self.host_links {
            self.host_links.clone_from(&links);
            // Without that thread the host has no names, as was said when it did not start.
            let _ = self.outlets.host.send(links);
        }
    }

    fn note_conflict(&mut self, place: &Place) {
        self.conflicts.retain(|conflict| !conflict.starts_with(&format!("{place}: ")));
        if let Some(conflict) = conflict(place, self.desired.askers(place)) {
            tracing::error!("{conflict}");
            self.conflicts.insert(conflict);
        }
    }

    fn problems(&self) -> Vec<String> {
        self.conflicts.iter().cloned().chain(self.listeners.failures()).collect()
    }

    fn names(&self) -> Names {
        let listeners = self.desired.network_names().map(|network| {
            let of_network = |audience: &Audience| match audience {
                Audience::Network(name) => name == network,
                Audience::Container(id) => id.network == *network,
            };
            (network.clone(), self.listeners.open_to(of_network))
        });
        Names {
            generation: self.now.generation,
            snapshot: self.snapshot.clone(),
            listeners: listeners.collect(),
        }
    }

    fn tell_figures(&mut self) {
        let (open, opening, failed) = self.listeners.counts();
        self.now.attachments = self.desired.attachments().len();
        self.now.networks = self.desired.networks();
        self.now.names = self.desired.names();
        self.now.listeners_open = open;
        self.now.listeners_failed = failed + self.conflicts.len();
        self.now.ready = self.now.ready || (self.now.last_diff.is_some() && opening == 0);
        self.outlets.figures.send_replace(self.now.clone());
    }
}

/// The next snapshot.
fn applied(snapshot: &Snapshot, change: Change) -> Snapshot {
    match change {
        Change::Network(network) => snapshot.with_network(network),
        Change::NetworkGone(name) => snapshot.without_network(&name),
        Change::Member(member) => snapshot.with_member(member),
        Change::MemberGone(id) => snapshot.without_member(&id),
    }
}

fn apply_service(snapshot: &mut Snapshot, change: ServiceNames) {
    match change {
        ServiceNames::Put(service) => snapshot.put_service(service),
        ServiceNames::Gone(name) => snapshot.drop_service(&name),
    }
}

/// At a moment, or never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use zeugma_dns::server::Settings;
    use zeugma_dns::zone::{Network, Upstreams};

    use super::*;

    fn reconciler(run_dir: &std::path::Path) -> Reconciler {
        let (host, _) = std::sync::mpsc::channel();
        let outlets = Outlets {
            resolver: Arc::new(Resolver::start(Settings::default()).unwrap()),
            host,
            figures: watch::channel(Figures::default()).0,
            services: Telling::new(mpsc::unbounded_channel().0),
        };
        Reconciler::new(Journal::at(run_dir), outlets, mpsc::channel(1).0, Inherited::default())
    }

    fn service(name: &str) -> ServiceNames {
        ServiceNames::Put(NamedService {
            name: name.parse().unwrap(),
            networks: ["front".parse().unwrap()].into(),
            addresses: vec![[10, 96, 0, 1].into()],
            tasks: Vec::new(),
            ports: Vec::new(),
        })
    }

    #[tokio::test]
    async fn services_are_answered_for_when_the_generation_is_told() {
        let run_dir = tempfile::tempdir().unwrap();
        let mut reconciler = reconciler(run_dir.path());
        reconciler.snapshot = reconciler.snapshot.with_network(Network {
            name: "front".parse().unwrap(),
            domain: "zeugma.internal".into(),
            subnets: Vec::new(),
            upstreams: Upstreams::default(),
        });
        let (told, mut hears) = oneshot::channel();
        let changes = vec![service("old"), service("web"), ServiceNames::Gone("old".parse().unwrap())];
        reconciler.hear(Message::Services(changes, told));
        assert_eq!(hears.try_recv(), Ok(1));
        for (name, expected) in [("web", "NOERROR"), ("old", "NXDOMAIN")] {
            let looked = reconciler.outlets.resolver.lookup(None, name, "A").await.unwrap();
            assert_eq!(looked.code, expected);
        }
        let (told, mut hears) = oneshot::channel();
        reconciler.hear(Message::Services(Vec::new(), told));
        assert_eq!(hears.try_recv(), Ok(1));
    }
}
