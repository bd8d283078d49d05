//! Repairs of what others undo. Once is mended at once; whoever undoes it again and again is told of, and is not fought
//! with as fast as both can.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::settled::{AGAIN, REPAIR};

/// Repairs of one thing that are made at once, each within [`SPAN`] of the one before.
const OFTEN: u32 = 5;
/// Longer than the longest pause: who waits for the repair to undo it is not forgotten meanwhile.
const SPAN: Duration = Duration::from_secs(60);

/// Those of late.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    /// By command: how often, and when last.
    made: BTreeMap<String, (u32, Instant)>,
    /// Until when nothing is mended because somebody changed it.
    until: Option<Instant>,
}

impl Repairs {
    /// These commands were needed, though nothing else was desired than before.
    pub(super) fn made(&mut self, lines: &[String], now: Instant) {
        self.made.retain(|_, (_, at)| now.duration_since(*at) < SPAN);
        let mut most = 0;
        for line in lines {
            let (times, at) = self.made.entry(line.clone()).or_insert((0, now));
            (*times, *at) = (times.saturating_add(1), now);
            most = most.max(*times);
        }
        let pause = |over: u32| AGAIN.saturating_mul(1 << over.min(16)).min(REPAIR);
        self.until = most.checked_sub(OFTEN).map(|over| now + pause(over));
    }

    /// Whether what somebody changes is mended at once.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// What is undone again and again, and what to do about it.
    pub(super) fn told(&self, now: Instant) -> Option<String> {
        let is_odd = |(times, at): &(u32, Instant)| *times >= OFTEN && now.duration_since(*at) < SPAN;
        let mut odd = self.made.iter().filter(|(_, times)| is_odd(times));
        let (line, more) = (odd.next()?.0, odd.count());
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        Some(format!(
            "another program of this host undoes `{line}`{more} again and again: find it, for instance by `ip monitor`, and \
             tell it to leave overlays alone; until then it is mended every {} s at least",
            REPAIR.as_secs()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_undoes_something_again_and_again_is_told_of_and_fought_ever_less() {
        let (mut repairs, mut now) = (Repairs::default(), Instant::now());
        let lines = ["ip route add 10.1.2.0/24 dev vx-front".to_owned()];
        let mut pauses = Vec::new();
        for _ in 0..11 {
            repairs.made(&lines, now);
            let begun = now;
            while !repairs.are_due(now) {
                now += Duration::from_secs(1);
            }
            pauses.push((now - begun).as_secs());
        }
        assert_eq!(pauses, [0, 0, 0, 0, 2, 4, 8, 16, 30, 30, 30]);
        assert!(repairs.told(now).unwrap().contains("`ip route add 10.1.2.0/24 dev vx-front` again"));
        // It has stopped.
        now += SPAN;
        assert_eq!(repairs.told(now), None);
        repairs.made(&lines, now);
        assert!(repairs.are_due(now));
    }

    #[test]
    fn different_repairs_are_no_fight() {
        let (mut repairs, now) = (Repairs::default(), Instant::now());
        for number in 0..100 {
            repairs.made(&[format!("ip route add 10.1.{number}.0/24 dev vx-front")], now);
        }
        assert!(repairs.are_due(now) && repairs.told(now).is_none());
    }
}
