//! Who may have others asked how often: token buckets. Pure but for the time's type.

use std::collections::HashMap;

use tokio::time::Instant;

use super::Client;

/// Questions a second that one client may have others asked.
const PER_CLIENT: Rate = Rate { a_second: 200.0, at_once: 1000.0 };
/// And all clients together.
const IN_ALL: Rate = Rate { a_second: 5000.0, at_once: 10_000.0 };
/// Clients that are known at one time. Whoever comes then shares one bucket.
const CLIENTS: usize = 4096;

#[derive(Clone, Copy)]
struct Rate {
    a_second: f64,
    at_once: f64,
}

struct Bucket {
    left: f64,
    at: Instant,
}

/// All buckets.
#[derive(Default)]
pub(super) struct Limits {
    all: Option<Bucket>,
    /// Those for whom there was no room.
    others: Option<Bucket>,
    clients: HashMap<Client, Bucket>,
}

impl Limits {
    /// Whether the client may ask now; counts it, if so.
    pub(super) fn allow(&mut self, client: Client, now: Instant) -> bool {
        if self.clients.len() >= CLIENTS && !self.clients.contains_key(&client) {
            // A bucket that is full again says nothing.
            self.clients.retain(|_, bucket| !bucket.is_full(PER_CLIENT, now));
        }
        let has_room = self.clients.len() < CLIENTS || self.clients.contains_key(&client);
        let bucket = if has_room {
            self.clients.entry(client).or_insert_with(|| Bucket::full(PER_CLIENT, now))
        } else {
            self.others.get_or_insert_with(|| Bucket::full(PER_CLIENT, now))
        };
        bucket.take(PER_CLIENT, now)
            && self.all.get_or_insert_with(|| Bucket::full(IN_ALL, now)).take(IN_ALL, now)
    }
}

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self { left: rate.at_once, at: now }
    }

    fn now(&self, rate: Rate, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + since * rate.a_second).min(rate.at_once)
    }

    fn is_full(&self, rate: Rate, now: Instant) -> bool {
        self.now(rate, now) >= rate.at_once
    }

    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.left = self.now(rate, now);
        self.at = now;
        let is_there = self.left >= 1.0;
        if is_there {
            self.left -= 1.0;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn asked(limits: &mut Limits, client: u32, times: usize, now: Instant) -> usize {
        (0..times).filter(|_| limits.allow(Client::Address(Ipv4Addr::from(client).into()), now)).count()
    }

    #[test]
    fn one_client_does_not_take_what_is_anothers() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        assert_eq!(asked(&mut limits, 1, 5000, now), 1000);
        assert_eq!(asked(&mut limits, 2, 10, now), 10);
        assert_eq!(asked(&mut limits, 1, 5000, now + Duration::from_secs(1)), 200);
    }

    #[test]
    fn all_together_have_a_limit_and_the_table_a_bound() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        let allowed: usize = (0..20_000).map(|client| asked(&mut limits, client, 1, now)).sum();
        assert!(allowed <= 10_000 && limits.clients.len() <= CLIENTS, "{allowed}");
        let later = now + Duration::from_secs(60);
        assert_eq!(asked(&mut limits, 30_000, 10, later), 10);
        assert!(limits.clients.len() < 10);
    }
}
