//! Which peer is asked when, with what size, and what answers and silence come to. No clock: time is an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use zeugma_overlay::Path;

use super::Key;

/// Between two small probes of a peer.
const PERIOD: Duration = Duration::from_secs(10);
/// Between two of full size.
const FULL_PERIOD: Duration = Duration::from_secs(300);
/// After that, no answer comes any more.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a small probe: as ping(8) sends.
const SMALL: u32 = 84;
/// How many small probes the loss is of.
const REMEMBERED: u32 = 10;
/// What every link carries: RFC 791 and RFC 8200.
const LEAST: [u32; 2] = [576, 1280];
/// A size is tried so often before it counts as lost.
const TRIES: u8 = 3;
/// The search ends when it knows the size to that many bytes.
const CLOSE: u32 = 8;

/// What is known of a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::overlay) struct Probed {
    /// Bytes: the largest packet that was answered.
    pub(in crate::overlay) mtu: Option<u32>,
    /// Of a hundred.
    pub(in crate::overlay) loss: Option<u8>,
    /// Microseconds.
    pub(in crate::overlay) round_trip: Option<u64>,
}

/// A peer that is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) to: IpAddr,
    /// With another one all is asked anew.
    pub(super) path: Path,
    /// Bytes that are to pass.
    pub(super) mtu: u32,
}

/// An echo request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) to: IpAddr,
    pub(super) sequence: u16,
    /// Bytes of the IP packet.
    pub(super) size: u32,
}

/// Sizes that passed and did not; the next one to be tried lies between them.
#[derive(Debug, Clone, Copy)]
struct Search {
    passes: u32,
    fails: u32,
    size: u32,
    tries: u8,
}

#[derive(Debug)]
struct Peer {
    target: Target,
    /// Of the last small probes, which were answered: the last one is the lowest bit.
    answered: u16,
    asked: u32,
    probed: Probed,
    small_at: Duration,
    /// None: what is waited for says when.
    large_at: Option<Duration>,
    search: Search,
}

/// A probe without an answer so far.
#[derive(Debug)]
struct Waiting {
    key: Key,
    to: IpAddr,
    size: u32,
    sent: Duration,
}

/// All peers. What is next is found without looking at all of them, which are many, hundreds of times a second.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    peers: BTreeMap<Key, Peer>,
    /// When each of them is asked next.
    due: BTreeSet<(Duration, Key)>,
    waiting: HashMap<u16, Waiting>,
    /// When each of those was sent.
    sent: BTreeSet<(Duration, u16)>,
    sequence: u16,
}

impl Schedule {
    /// Asks these and no others. New ones are spread over a period, so that a thousand are a hundred a second.
    pub(super) fn follow(&mut self, targets: BTreeMap<Key, Target>, now: Duration) {
        self.peers.retain(|key, peer| targets.get(key) == Some(&peer.target));
        self.waiting.retain(|_, waiting| self.peers.contains_key(&waiting.key));
        let fresh = targets.iter().filter(|(key, _)| !self.peers.contains_key(*key)).count().max(1) as u32;
        let mut turn = 0;
        for (key, target) in targets {
            self.peers.entry(key).or_insert_with(|| {
                let at = now + PERIOD * turn / fresh;
                turn += 1;
                Peer::new(target, at)
            });
        }
        self.due = self.peers.iter().map(|(key, peer)| (peer.next(), key.clone())).collect();
        self.sent = self.waiting.iter().map(|(sequence, waiting)| (waiting.sent, *sequence)).collect();
    }

    /// What is known of a peer.
    pub(super) fn of(&self, key: &Key) -> Probed {
        self.peers.get(key).map_or_else(Probed::default, |peer| peer.probed)
    }

    /// What is to be sent now.
    pub(super) fn due(&mut self, now: Duration) -> Vec<Probe> {
        self.give_up(now);
        let mut due = Vec::new();
        while let Some((_, key)) = self.due.first().filter(|(at, _)| *at <= now).cloned() {
            let asked = self.change(&key, |peer| (peer.target.to, peer.ask(now)));
            for (to, size) in asked.into_iter().flat_map(|(to, sizes)| sizes.map(move |size| (to, size))) {
                self.sequence = self.sequence.wrapping_add(1);
                due.push(Probe { to, sequence: self.sequence, size });
                self.wait(Waiting { key: key.clone(), to, size, sent: now });
            }
        }
        due
    }

    /// When something is to be done next; none: there is nobody to ask.
    pub(super) fn next(&self) -> Option<Duration> {
        let due = self.due.first().map(|(at, _)| *at);
        let late = self.sent.first().map(|(sent, _)| *sent + PATIENCE);
        due.into_iter().chain(late).min()
    }

    /// It was not sent, by nobody's fault but this host's: it counts neither as answered nor as lost.
    pub(super) fn forget(&mut self, probe: Probe, now: Duration) {
        let Some(waiting) = self.waited(probe.sequence) else { return };
        if probe.size != SMALL {
            self.change(&waiting.key, |peer| peer.large_at = Some(now + PERIOD));
        }
    }

    /// An answer came.
    pub(super) fn hear(&mut self, from: IpAddr, sequence: u16, now: Duration) {
        // Somebody else's answer with our number is none.
        let is_its = self.waiting.get(&sequence).is_some_and(|waiting| waiting.to == from);
        let Some(waiting) = self.waited(sequence).filter(|_| is_its) else { return };
        let took = now.saturating_sub(waiting.sent);
        self.change(&waiting.key, |peer| peer.heard(waiting.size, took, now));
    }

    fn give_up(&mut self, now: Duration) {
        while let Some((_, sequence)) = self.sent.first().filter(|(sent, _)| *sent + PATIENCE <= now).copied()
        {
            let Some(waiting) = self.waited(sequence) else { return };
            self.change(&waiting.key, |peer| peer.missed(waiting.size, now));
        }
    }

    /// Changes a peer, and when it is due; none: it is not asked any more.
    fn change<T>(&mut self, key: &Key, change: impl FnOnce(&mut Peer) -> T) -> Option<T> {
        let peer = self.peers.get_mut(key)?;
        let before = peer.next();
        let changed = change(peer);
        if peer.next() != before {
            self.due.remove(&(before, key.clone()));
            self.due.insert((peer.next(), key.clone()));
        }
        Some(changed)
    }

    /// For an answer to the last one that was sent.
    fn wait(&mut self, waiting: Waiting) {
        let (sent, sequence) = (waiting.sent, self.sequence);
        // Of so many that their numbers came round.
        if let Some(before) = self.waiting.insert(sequence, waiting) {
            self.sent.remove(&(before.sent, sequence));
        }
        self.sent.insert((sent, sequence));
    }

    /// No more.
    fn waited(&mut self, sequence: u16) -> Option<Waiting> {
        let waiting = self.waiting.remove(&sequence)?;
        self.sent.remove(&(waiting.sent, sequence));
        Some(waiting)
    }
}

impl Peer {
    fn new(target: Target, at: Duration) -> Self {
        let search = Search::new(&target);
        let (answered, asked, probed) = Default::default();
        Self { target, answered, asked, probed, small_at: at, large_at: Some(at), search }
    }

    /// When it is asked next.
    fn next(&self) -> Duration {
        self.large_at.map_or(self.small_at, |at| at.min(self.small_at))
    }

    /// The sizes that it is asked with now.
    fn ask(&mut self, now: Duration) -> impl Iterator<Item = u32> + use<> {
        let small = (self.small_at <= now).then_some(SMALL);
        let large = self.large_at.take_if(|at| *at <= now).map(|_| self.search.size);
        if small.is_some() {
            self.small_at = now + PERIOD;
        }
        small.into_iter().chain(large)
    }

    fn heard(&mut self, size: u32, took: Duration, now: Duration) {
        if size == SMALL {
            if self.probed.round_trip.is_none() {
                // What was sent before the other host was there says nothing of the way.
                self.asked = 0;
            }
            self.probed.round_trip = u64::try_from(took.as_micros()).ok();
            return self.note(true);
        }
        self.search.passes = size;
        self.on(now);
    }

    fn missed(&mut self, size: u32, now: Duration) {
        if size == SMALL {
            return self.note(false);
        }
        self.search.tries += 1;
        if self.search.tries < TRIES {
            self.large_at = Some(now);
        } else if self.probed.loss.is_none_or(|loss| loss >= 50) {
            // Nothing passes: its size is not what is wrong.
            self.rest(now, self.probed.mtu);
        } else {
            self.search.fails = size;
            self.on(now);
        }
    }

    /// The next size, or the end.
    fn on(&mut self, now: Duration) {
        let Search { passes, fails, .. } = self.search;
        if fails.saturating_sub(passes) <= CLOSE {
            return self.rest(now, Some(passes));
        }
        self.search.size = passes + (fails - passes) / 2;
        self.search.tries = 0;
        self.large_at = Some(now);
    }

    fn rest(&mut self, now: Duration, mtu: Option<u32>) {
        self.probed.mtu = mtu;
        self.search = Search::new(&self.target);
        // Whoever answers nothing is asked again soon.
        self.large_at = Some(now + if mtu.is_some() { FULL_PERIOD } else { PERIOD });
    }

    fn note(&mut self, is_answered: bool) {
        self.answered = self.answered << 1 | u16::from(is_answered);
        self.asked = (self.asked + 1).min(REMEMBERED);
        let answered = (self.answered & ((1 << self.asked) - 1)).count_ones();
        self.probed.loss = u8::try_from((self.asked - answered) * 100 / self.asked).ok();
    }
}

impl Search {
    /// From the full size on; if it passes, that is all.
    fn new(target: &Target) -> Self {
        let least = LEAST[usize::from(target.to.is_ipv6())].min(target.mtu);
        Self { passes: least, fails: target.mtu + 1, size: target.mtu, tries: 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(node: usize) -> Key {
        ("net".parse().unwrap(), format!("n{node}").parse().unwrap())
    }

    fn target(node: usize, mtu: u32) -> Target {
        let to = IpAddr::from([10, 90, (node >> 8) as u8, node as u8]);
        Target { to, path: Path::Direct { via: to, link: "eth0".parse().unwrap() }, mtu }
    }

    /// A schedule of one peer whose path passes up to `most` bytes, after so many seconds.
    fn after(schedule: &mut Schedule, seconds: std::ops::Range<u32>, most: u32) -> Vec<u32> {
        let mut sizes = Vec::new();
        for step in seconds.start * 10..seconds.end * 10 {
            let now = SECOND * step / 10;
            for probe in schedule.due(now) {
                sizes.push(probe.size);
                if probe.size <= most {
                    schedule.hear(probe.to, probe.sequence, now + SECOND / 100);
                }
            }
        }
        sizes
    }

    #[test]
    fn what_fits_is_tried_once_and_small_probes_go_on() {
        let mut schedule = Schedule::default();
        schedule.follow([(key(1), target(1, 1450))].into(), Duration::ZERO);
        let sizes = after(&mut schedule, 0..60, 1450);
        assert_eq!(sizes.iter().filter(|size| **size > SMALL).count(), 1);
        assert_eq!(sizes.len(), 7);
        assert_eq!(schedule.of(&key(1)), Probed { mtu: Some(1450), loss: Some(0), round_trip: Some(10_000) });
    }

    #[test]
    fn a_size_that_does_not_pass_is_searched_for() {
        let mut schedule = Schedule::default();
        schedule.follow([(key(1), target(1, 1450))].into(), Duration::ZERO);
        after(&mut schedule, 0..120, 1400);
        let mtu = schedule.of(&key(1)).mtu.unwrap();
        assert!((1400 - CLOSE..=1400).contains(&mtu), "{mtu}");
        // Mended: found out with the next one of full size.
        after(&mut schedule, 120..600, 1450);
        assert_eq!(schedule.of(&key(1)).mtu, Some(1450));
    }

    #[test]
    fn silence_is_loss_and_says_nothing_about_sizes() {
        let mut schedule = Schedule::default();
        schedule.follow([(key(1), target(1, 1450))].into(), Duration::ZERO);
        after(&mut schedule, 0..60, 0);
        assert_eq!(schedule.of(&key(1)), Probed { mtu: None, loss: Some(100), round_trip: None });
        after(&mut schedule, 60..110, 1450);
        let probed = schedule.of(&key(1));
        assert_eq!((probed.mtu, probed.loss), (Some(1450), Some(0)), "it was not there yet");
        after(&mut schedule, 110..160, 0);
        assert_eq!(schedule.of(&key(1)).loss, Some(50));
    }

    #[test]
    fn a_thousand_peers_are_spread_evenly_and_a_new_path_begins_anew() {
        let mut schedule = Schedule::default();
        let all: BTreeMap<Key, Target> = (0..1000).map(|node| (key(node), target(node, 1450))).collect();
        schedule.follow(all.clone(), Duration::ZERO);
        let mut most = 0;
        for step in 0..100 {
            let due = schedule.due(SECOND * step / 10);
            most = most.max(due.len());
            due.iter().for_each(|probe| schedule.hear(probe.to, probe.sequence, SECOND * step / 10));
        }
        assert!(most <= 2 * 11, "{most} at once");
        assert_eq!(schedule.of(&key(7)).mtu, Some(1450));
        let mut changed = all;
        changed.insert(key(7), target(7, 1400));
        schedule.follow(changed, SECOND * 10);
        assert_eq!((schedule.of(&key(7)).mtu, schedule.of(&key(8)).mtu), (None, Some(1450)));
    }

    #[test]
    fn peers_that_come_late_are_spread_as_well() {
        let mut schedule = Schedule::default();
        schedule.due(Duration::ZERO);
        schedule.follow((0..1000).map(|node| (key(node), target(node, 1450))).collect(), SECOND * 60);
        let mut most = 0;
        for step in 600..700 {
            let due = schedule.due(SECOND * step / 10);
            most = most.max(due.len());
            due.iter().for_each(|probe| schedule.hear(probe.to, probe.sequence, SECOND * step / 10));
        }
        assert!((1..=2 * 11).contains(&most), "{most} at once");
    }

    #[test]
    fn what_was_not_sent_is_not_lost_and_tried_again() {
        let mut schedule = Schedule::default();
        schedule.follow([(key(1), target(1, 1450))].into(), Duration::ZERO);
        for step in 0..30 {
            let now = SECOND * step;
            schedule.due(now).into_iter().for_each(|probe| schedule.forget(probe, now));
        }
        assert_eq!(schedule.of(&key(1)), Probed::default());
        after(&mut schedule, 30..60, 1450);
        assert_eq!(schedule.of(&key(1)), Probed { mtu: Some(1450), loss: Some(0), round_trip: Some(10_000) });
    }

    /// By looking at everything.
    fn least(schedule: &Schedule) -> Option<Duration> {
        let peers = schedule.peers.values().flat_map(|peer| [Some(peer.small_at), peer.large_at]).flatten();
        peers.chain(schedule.waiting.values().map(|waiting| waiting.sent + PATIENCE)).min()
    }

    proptest! {
        #[test]
        fn nobody_is_asked_late_or_waited_for_longer(
            steps in prop::collection::vec((0..40_u32, 0..4_u8, prop::collection::btree_set(0..9_usize, 0..5)), 1..60),
        ) {
            let (mut schedule, mut now, mut asked) = (Schedule::default(), Duration::ZERO, Vec::new());
            for (wait, what, peers) in steps {
                now += SECOND * wait / 4;
                match what {
                    0 => schedule.follow(peers.iter().map(|peer| (key(*peer), target(*peer, 1450))).collect(), now),
                    1 => asked.drain(..).for_each(|one: Probe| schedule.hear(one.to, one.sequence, now)),
                    2 => asked.drain(..).for_each(|one| schedule.forget(one, now)),
                    _ => {
                        asked.extend(schedule.due(now));
                        prop_assert!(schedule.next().is_none_or(|at| at > now));
                    }
                }
                prop_assert_eq!(schedule.next(), least(&schedule));
                prop_assert_eq!((schedule.due.len(), schedule.sent.len()), (schedule.peers.len(), schedule.waiting.len()));
            }
        }
    }

    #[test]
    fn an_answer_of_somebody_else_is_none() {
        let mut schedule = Schedule::default();
        schedule.follow([(key(1), target(1, 1450))].into(), Duration::ZERO);
        for probe in schedule.due(Duration::ZERO) {
            schedule.hear(IpAddr::from([10, 0, 0, 1]), probe.sequence, SECOND);
        }
        after(&mut schedule, 3..4, 1450);
        assert_eq!(schedule.of(&key(1)).round_trip, None);
    }
}
