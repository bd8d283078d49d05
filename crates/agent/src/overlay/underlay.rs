//! By which addresses others reach this host, while some of them come and go.

use std::time::{Duration, Instant};

use zeugma_overlay::Underlay;

/// How long an address is gone before the others are told: a restart of the network takes less, and each change makes
/// devices anew on every host.
const PATIENCE: Duration = Duration::from_secs(60);

/// Since when there is no address of IPv4, of IPv6, where there was one.
#[derive(Debug, Default)]
pub(super) struct Gone([Option<Instant>; 2]);

impl Gone {
    /// What was found, and of families that nothing was found of what was there before. The last address stays: others
    /// would lose this host otherwise.
    pub(super) fn merged(&mut self, before: &[Underlay], found: &[Underlay], now: Instant) -> Vec<Underlay> {
        let mut merged = Vec::new();
        for (is_v4, gone) in [true, false].into_iter().zip(&mut self.0) {
            let of_family = |underlay: &&Underlay| underlay.address.is_ipv4() == is_v4;
            if found.iter().any(|underlay| of_family(&underlay)) {
                *gone = None;
                merged.extend(found.iter().filter(of_family).cloned());
                continue;
            }
            let since = *gone.get_or_insert(now);
            if found.is_empty() || now.duration_since(since) < PATIENCE {
                merged.extend(before.iter().filter(of_family).cloned());
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_gone_for_a_moment_stays_and_a_new_one_takes_its_place() {
        let of = |addresses: &[&str]| -> Vec<Underlay> {
            let link = "eth0".parse::<zeugma_model::IfName>().unwrap();
            let one =
                |text: &&str| Underlay { address: text.parse().unwrap(), link: link.clone(), mtu: 1500 };
            addresses.iter().map(one).collect()
        };
        let (mut gone, now) = (Gone::default(), Instant::now());
        let both = of(&["192.0.2.1/24", "2001:db8::1/64"]);
        let v4 = of(&["192.0.2.1/24"]);
        assert_eq!(gone.merged(&[], &v4, now), v4);
        assert_eq!(gone.merged(&v4, &both, now), both);
        assert_eq!(gone.merged(&both, &v4, now), both);
        let moved = of(&["192.0.2.7/24"]);
        assert_eq!(gone.merged(&both, &moved, now + PATIENCE / 2)[1], both[1]);
        assert_eq!(gone.merged(&both, &[], now + PATIENCE * 2), both);
        assert_eq!(gone.merged(&both, &v4, now + PATIENCE * 2), v4);
    }
}
