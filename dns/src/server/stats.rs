//! What is counted. Plain numbers; Prometheus is the agent's matter.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::wire::Code;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the resolver began.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// TCP connections that are open.
            pub tcp_open: u64,
            /// Answers by code, in the order of [`Code::ALL`].
            pub answers: Vec<(Code, u64)>,
        }

        /// Those of [`Stats`], as the thread counts them.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
            pub(super) tcp_open: Counter,
            answers: [Counter; Code::ALL.len()],
        }

        impl Counters {
            pub(super) fn read(&self) -> Stats {
                let answers = Code::ALL.into_iter().zip(self.answers.iter().map(Counter::get)).collect();
                Stats { $($name: self.$name.get(),)* tcp_open: self.tcp_open.get(), answers }
            }
        }
    };
}

counters! {
    /// Questions that came as datagrams.
    udp_queries,
    /// Questions that came over TCP.
    tcp_queries,
    /// Messages that are none, or responses: dropped without an answer.
    malformed,
    /// Replies that the kernel did not take.
    unsent,
    /// Questions from who is not on the network: refused.
    strangers,
    /// Questions that a zone of the operator's has the name of.
    zone_answers,
    /// Questions that others were asked.
    forwarded,
    /// Questions about the outside that the cache answered.
    cache_hits,
    /// Answers that no longer held, given because nobody said anything newer.
    stale,
    /// Questions about the outside that nobody answered in time, or that nobody is there for.
    forward_failures,
    /// Questions about the outside that were refused because there were too many.
    limited,
    /// TCP connections taken.
    tcp_connections,
    /// TCP connections closed at once: too many, or a stranger's.
    tcp_refused,
    /// TCP connections cut off: a peer that was too slow, silent for too long, or spoke nonsense.
    tcp_cut,
}

impl Counters {
    pub(super) fn answered(&self, code: Code) {
        if let Some(at) = Code::ALL.iter().position(|known| *known == code) {
            self.answers[at].add(1);
        }
    }
}

/// A number that one thread raises and others read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Only ever called by the resolver's thread, so that no locked instruction is needed.
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, less: u64) {
        self.0.store(self.get().wrapping_sub(less), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
