//! Whether a store answers. What it knew before stays usable either way: see `mirror.rs`.

use std::time::SystemTime;

use tokio::sync::watch;

/// Whether a store can be read and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The last that was asked of it was answered.
    Healthy,
    /// It does not answer. What is known is still served; nothing can be written.
    Degraded {
        /// When it first did not answer.
        since: SystemTime,
        /// What it, or the way to it, said.
        why: String,
    },
}

impl Health {
    /// Whether it is [`Health::Degraded`].
    pub fn is_degraded(&self) -> bool {
        matches!(self, Health::Degraded { .. })
    }

    /// Degraded by `why` at `now`, unless it was so before: then its beginning is kept.
    fn degraded(&self, why: String, now: SystemTime) -> Health {
        match self {
            Health::Healthy => Health::Degraded { since: now, why },
            Health::Degraded { since, .. } => Health::Degraded { since: *since, why },
        }
    }
}

/// Tells those who observe a store of every turn of its health, and of nothing else.
#[derive(Debug)]
pub(crate) struct Pulse(watch::Sender<Health>);

impl Pulse {
    pub(crate) fn new(health: Health) -> Pulse {
        Pulse(watch::Sender::new(health))
    }

    pub(crate) fn observe(&self) -> watch::Receiver<Health> {
        self.0.subscribe()
    }

    /// It answered, or it did not.
    pub(crate) fn beat<T, E: ToString>(&self, answer: Result<T, E>) {
        self.0.send_if_modified(|health| {
            let next = match &answer {
                Ok(_) => Health::Healthy,
                Err(why) => health.degraded(why.to_string(), SystemTime::now()),
            };
            std::mem::replace(health, next.clone()) != next
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_outage_keeps_its_beginning() {
        let (first, later) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(9));
        let degraded = Health::Healthy.degraded("refused".into(), first).degraded("no leader".into(), later);
        assert_eq!(degraded, Health::Degraded { since: first, why: "no leader".into() });
    }

    #[test]
    fn only_turns_are_told() {
        let pulse = Pulse::new(Health::Healthy);
        let mut observer = pulse.observe();
        pulse.beat(Ok::<_, String>(()));
        assert!(!observer.has_changed().unwrap());
        pulse.beat(Err::<(), _>("refused"));
        assert!(observer.borrow_and_update().is_degraded());
        pulse.beat(Ok::<_, String>(()));
        assert_eq!(*observer.borrow_and_update(), Health::Healthy);
    }
}
