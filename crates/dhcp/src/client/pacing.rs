//! How long a client waits: for an answer, between attempts, and altogether.

use std::time::Duration;

use super::Moment;

/// The patience of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// For an answer, before an exchange counts as failed.
    pub timeout: Duration,
    /// The longest pause between two exchanges.
    pub resend_max: Duration,
    /// For a lease, before the client gives up.
    pub give_up: Duration,
}

/// The first pauses are short: a server that is just being started, say.
const QUICK_PAUSES: u32 = 4;
const QUICK: Duration = Duration::from_secs(2);
/// RFC 2131, 4.1: from 4 seconds, doubled each time.
const SLOW: Duration = Duration::from_secs(4);
/// The first wait inside an exchange: on the link to a container a packet is lost only while it comes up.
const RESEND: Duration = Duration::from_secs(1);
/// RFC 2131, 4.4.5: never more often while a lease is being renewed.
const RESEND_RENEWAL: Duration = Duration::from_secs(60);

/// One question, sent again until there is an answer or the time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exchange {
    pub(super) xid: u32,
    pub(super) begun: Duration,
    /// When it counts as failed.
    pub(super) fails: Duration,
    resend: Duration,
    wait: Duration,
}

impl Exchange {
    pub(super) fn new(xid: u32, timeout: Duration, at: Moment) -> Self {
        let Moment { now, .. } = at;
        let resend = now + jitter(RESEND, RESEND / 4, at);
        Self { xid, begun: now, fails: now + timeout, resend, wait: RESEND }
    }

    /// One that nothing more is sent in.
    pub(super) fn spent(xid: u32, end: Duration) -> Self {
        Self { xid, begun: end, fails: end, resend: end, wait: RESEND }
    }

    pub(super) fn due(&self) -> Duration {
        self.resend.min(self.fails)
    }

    /// After it was sent again.
    pub(super) fn again(self, at: Moment) -> Self {
        let wait = self.wait * 2;
        Self { resend: at.now + jitter(wait, wait / 4, at), wait, ..self }
    }
}

impl Pacing {
    /// The pause before the next exchange after so many failures.
    pub(super) fn pause(&self, failures: u32, at: Moment) -> Duration {
        let pause = match failures.checked_sub(QUICK_PAUSES) {
            None => QUICK,
            Some(slow) => SLOW.saturating_mul(2u32.saturating_pow(slow)),
        };
        jitter(pause.min(self.resend_max), Duration::from_secs(1), at)
    }
}

/// When a renewal is asked for again: after half of the time that is left for it.
pub(super) fn resend_of_renewal(now: Duration, until: Duration) -> Duration {
    now + (until.saturating_sub(now) / 2).max(RESEND_RENEWAL)
}

/// `wait` give or take `span`, and never nothing.
fn jitter(wait: Duration, span: Duration, at: Moment) -> Duration {
    let share = f64::from(at.random as u32) / f64::from(u32::MAX);
    let least = wait.saturating_sub(span).max(Duration::from_millis(100));
    least + span.mul_f64(2.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(random: u64) -> Moment {
        Moment { now: Duration::from_secs(100), random }
    }

    #[test]
    fn pauses_grow_to_their_limit_and_are_never_nothing() {
        let pacing = Pacing {
            timeout: Duration::from_secs(10),
            resend_max: Duration::from_secs(62),
            give_up: Duration::from_secs(208),
        };
        let middle = u64::from(u32::MAX / 2);
        let pauses = (0..10).map(|failures| pacing.pause(failures, at(middle)).as_secs_f64().round());
        assert_eq!(pauses.collect::<Vec<_>>(), [2., 2., 2., 2., 4., 8., 16., 32., 62., 62.]);
        let hasty = Pacing { resend_max: Duration::ZERO, ..pacing };
        assert!((0..u64::MAX).step_by(1 << 60).all(|random| !hasty.pause(u32::MAX, at(random)).is_zero()));
    }
}
