//! What is counted. Plain numbers; Prometheus is the agent's matter.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::wire::Code;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the resolver began.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// Answers by code, in the order of [`Code::ALL`].
            pub answers: Vec<(Code, u64)>,
        }

        /// Those of [`Stats`], as the thread counts them.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
            answers: [Counter; Code::ALL.len()],
        }

        impl Counters {
            pub(super) fn read(&self) -> Stats {
                let answers = Code::ALL.into_iter().zip(self.answers.iter().map(Counter::get)).collect();
                Stats { $($name: self.$name.get(),)* answers }
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
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Only ever called by the resolver's thread, so that no locked instruction is needed.
    pub(super) fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
