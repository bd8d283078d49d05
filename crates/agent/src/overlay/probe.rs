//! Whether other hosts answer by way of their tunnels, how fast, and what size arrives: an echo request to each peer every
//! ten seconds, and one of full size when its path changes and every five minutes. When that one is lost and small ones
//! are not, the size that passes is searched for.
//!
//! What is sent when, and what answers come to, is decided in `schedule`; here are the sockets.

mod schedule;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::sleep;
use zeugma_kernel::Pinger;
use zeugma_model::{NetworkName, NodeName};
use zeugma_overlay::{Desired, Path, Peer};
use zeugma_plan::Family;

use schedule::{Schedule, Target};

pub(super) use schedule::Probed;

/// A peer of an overlay.
pub(super) type Key = (NetworkName, NodeName);

/// The way to the prober.
#[derive(Debug)]
pub(super) struct Probes {
    schedule: Arc<Mutex<Schedule>>,
    changed: watch::Sender<()>,
    /// What the schedule's times are counted from.
    begin: Instant,
}

impl Default for Probes {
    /// Starts it, inside a tokio runtime; it ends with this.
    fn default() -> Self {
        let (changed, news) = watch::channel(());
        let schedule = Arc::new(Mutex::new(Schedule::default()));
        let begin = Instant::now();
        tokio::spawn(run(schedule.clone(), news, begin));
        Self { schedule, changed, begin }
    }
}

impl Probes {
    /// Probes these peers and no others; what is known of those that stay is kept.
    pub(super) fn follow(&self, desired: &Desired) {
        locked(&self.schedule).follow(targets(desired), self.begin.elapsed());
        self.changed.send_replace(());
    }

    /// What is known of a peer.
    pub(super) fn of(&self, network: &NetworkName, node: &NodeName) -> Probed {
        locked(&self.schedule).of(&(network.clone(), node.clone()))
    }
}

/// The lock is held for as long as a table is looked into.
fn locked(schedule: &Mutex<Schedule>) -> MutexGuard<'_, Schedule> {
    schedule.lock().unwrap_or_else(PoisonError::into_inner)
}

fn targets(desired: &Desired) -> BTreeMap<Key, Target> {
    let mut targets = BTreeMap::new();
    for (network, overlay) in &desired.overlays {
        let of = |(node, peer): (&NodeName, &Peer)| {
            let target = Target { to: asked(peer)?, path: peer.path.clone(), mtu: overlay.mtu };
            Some(((network.clone(), node.clone()), target))
        };
        targets.extend(overlay.peers.iter().filter_map(of));
    }
    targets
}

/// The peer's own address in the tunnel; without one, its address on the wire.
fn asked(peer: &Peer) -> Option<IpAddr> {
    match &peer.path {
        Path::Direct { via, .. } => Some(*via),
        Path::Vxlan { .. } | Path::Wireguard { .. } => peer.blocks.first().map(ipnetwork::IpNetwork::network),
    }
}

/// A socket, opened when it is first needed, and again when it breaks.
#[derive(Default)]
struct Socket(Option<(Pinger, UdpSocket)>);

impl Socket {
    fn open(&mut self, family: Family) -> Option<&Pinger> {
        if self.0.is_none() {
            let opened = Pinger::open(family).map_err(|error| error.to_string()).and_then(|pinger| {
                let waiting = pinger.waiting().and_then(UdpSocket::from_std);
                Ok((pinger, waiting.map_err(|error| error.to_string())?))
            });
            self.0 = opened.inspect_err(|error| tracing::debug!(error, "peers are not probed")).ok();
        }
        self.0.as_ref().map(|(pinger, _)| pinger)
    }

    /// Waits for an answer; for ever where there is no socket.
    async fn answered(&self) {
        match &self.0 {
            Some((_, waiting)) => drop(waiting.readable().await),
            None => std::future::pending().await,
        }
    }

    /// All answers that wait.
    fn drain(&mut self, mut hear: impl FnMut(IpAddr, u16)) {
        let Some((pinger, waiting)) = &self.0 else { return };
        let outcome = waiting.try_io(tokio::io::Interest::READABLE, || {
            while let Some((from, sequence)) = pinger.receive()? {
                hear(from, sequence);
            }
            Err::<(), _>(std::io::ErrorKind::WouldBlock.into())
        });
        if outcome.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock) {
            self.0 = None;
        }
    }
}

async fn run(schedule: Arc<Mutex<Schedule>>, mut news: watch::Receiver<()>, begin: Instant) {
    let mut sockets = Family::ALL.map(|_| Socket::default());
    loop {
        let now = begin.elapsed();
        let due = locked(&schedule).due(now);
        for probe in due {
            let family = Family::of(probe.to);
            let pinger = sockets[usize::from(family == Family::V6)].open(family);
            // One that finds no way, or is too large for the link, is one that is not answered.
            let is_sent = pinger
                .is_some_and(|pinger| pinger.send(probe.to, probe.sequence, probe.size).unwrap_or(true));
            if !is_sent {
                locked(&schedule).forget(probe, now);
            }
        }
        let next = locked(&schedule)
            .next()
            .map_or(Duration::from_secs(3600), |at| at.saturating_sub(begin.elapsed()));
        let [v4, v6] = &sockets;
        tokio::select! {
            told = news.changed() => if told.is_err() { return },
            () = sleep(next) => {}
            () = v4.answered() => {}
            () = v6.answered() => {}
        }
        let now = begin.elapsed();
        for socket in &mut sockets {
            socket.drain(|from, sequence| locked(&schedule).hear(from, sequence, now));
        }
    }
}
