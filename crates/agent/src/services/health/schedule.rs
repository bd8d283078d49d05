//! Who is asked when, and what several answers come to. No I/O and no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeugma_model::{HealthCheck, ServiceName};
use zeugma_services::{Check, Verdict};

/// Everybody who is to be asked.
#[derive(Default)]
pub(super) struct Schedule {
    services: HashMap<ServiceName, Asked>,
    watched: HashMap<u64, Watched>,
    /// Those who are not being asked right now.
    due: BTreeSet<(Instant, u64)>,
    last: u64,
    spread: RandomState,
}

/// A service's endpoints, each with its number, which is another whenever it is asked anew.
struct Asked {
    how: Arc<HealthCheck>,
    numbers: BTreeMap<IpAddr, u64>,
}

struct Watched {
    check: Check,
    how: Arc<HealthCheck>,
    streak: Streak,
}

/// Somebody is to be asked now.
pub(super) struct Question {
    pub(super) number: u64,
    pub(super) address: IpAddr,
    pub(super) how: Arc<HealthCheck>,
}

/// Answers of one kind, one after another.
#[derive(Default)]
struct Streak {
    is_good: bool,
    length: u32,
    verdict: Option<bool>,
}

impl Streak {
    /// Whether the verdict is another by this answer.
    fn is_news(&mut self, is_good: bool, threshold: u32) -> bool {
        self.length = if self.is_good == is_good { self.length.saturating_add(1) } else { 1 };
        self.is_good = is_good;
        let enough = if is_good && self.verdict.is_none() { 1 } else { threshold };
        let is_news = self.length >= enough && self.verdict != Some(is_good);
        if is_news {
            self.verdict = Some(is_good);
        }
        is_news
    }
}

impl Schedule {
    pub(super) fn watch(&mut self, service: ServiceName, how: HealthCheck, checks: Vec<Check>, now: Instant) {
        let before = self.services.remove(&service);
        let (how, mut before) = match before {
            Some(before) if *before.how == how => (before.how, before.numbers),
            before => {
                self.drop_all(before);
                (Arc::new(how), BTreeMap::new())
            }
        };
        let mut numbers = BTreeMap::new();
        for check in checks {
            let address = check.address;
            let number = before.remove(&address).unwrap_or_else(|| self.begin(check, how.clone(), now));
            numbers.insert(address, number);
        }
        before.into_values().for_each(|number| drop(self.watched.remove(&number)));
        if !numbers.is_empty() {
            self.services.insert(service, Asked { how, numbers });
        }
    }

    pub(super) fn forget(&mut self, service: &ServiceName) {
        let gone = self.services.remove(service);
        self.drop_all(gone);
    }

    /// Who is to be asked now; it is not due again before it has answered.
    pub(super) fn due(&mut self, now: Instant) -> Option<Question> {
        while let Some(&(due, number)) = self.due.first() {
            let watched = self.watched.get(&number);
            if due > now && watched.is_some() {
                return None;
            }
            self.due.pop_first();
            if let Some(watched) = watched {
                return Some(Question { number, address: watched.check.address, how: watched.how.clone() });
            }
        }
        None
    }

    /// When somebody is to be asked next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes an answer; the verdict when it is another than before.
    pub(super) fn answer(
        &mut self,
        number: u64,
        answer: Result<(), String>,
        now: Instant,
    ) -> Option<(Check, Verdict)> {
        let watched = self.watched.get_mut(&number)?;
        let interval = Duration::from_secs(watched.how.interval_seconds.get().into());
        // A tenth more or less, so that those who came together are not asked together for ever.
        let tenths = 90 + u32::try_from(self.spread.hash_one((number, now)) % 21).unwrap_or(0);
        self.due.insert((now + interval * tenths / 100, number));
        let is_news = watched.streak.is_news(answer.is_ok(), watched.how.threshold.get());
        let verdict = answer.map_or_else(Verdict::Unhealthy, |()| Verdict::Healthy);
        is_news.then(|| (watched.check.clone(), verdict))
    }

    fn begin(&mut self, check: Check, how: Arc<HealthCheck>, now: Instant) -> u64 {
        self.last += 1;
        self.watched.insert(self.last, Watched { check, how, streak: Streak::default() });
        self.due.insert((now, self.last));
        self.last
    }

    /// Their moments are passed over when they come.
    fn drop_all(&mut self, asked: Option<Asked>) {
        let numbers = asked.into_iter().flat_map(|asked| asked.numbers.into_values());
        numbers.for_each(|number| drop(self.watched.remove(&number)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(last: u8) -> Check {
        Check { service: "web".parse().unwrap(), address: IpAddr::from([10, 88, 0, last]) }
    }

    fn how(interval: u32) -> HealthCheck {
        let text = json!({"probe": {"tcp": {"port": 80}}, "interval_seconds": interval, "threshold": 3});
        serde_json::from_value(text).unwrap()
    }

    fn watch(schedule: &mut Schedule, interval: u32, checks: &[u8], now: Instant) {
        let checks = checks.iter().map(|last| check(*last)).collect();
        schedule.watch("web".parse().unwrap(), how(interval), checks, now);
    }

    fn due(schedule: &mut Schedule, now: Instant) -> Vec<Question> {
        std::iter::from_fn(|| schedule.due(now)).collect()
    }

    #[test]
    fn the_first_success_is_told_and_then_every_third_of_another_kind() {
        let mut streak = Streak::default();
        let told: Vec<bool> = "+--+---+++-".chars().map(|answer| streak.is_news(answer == '+', 3)).collect();
        assert_eq!(told, [1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0].map(|told| told == 1));
    }

    #[test]
    fn a_beginning_of_failures_is_told_after_as_many_as_the_threshold() {
        let mut streak = Streak::default();
        let told: Vec<bool> = "----+".chars().map(|answer| streak.is_news(answer == '+', 3)).collect();
        assert_eq!(told, [false, false, true, false, false]);
    }

    #[test]
    fn who_is_new_is_asked_at_once_and_again_after_the_interval() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        watch(&mut schedule, 10, &[1, 2], now);
        let questions = due(&mut schedule, now);
        assert_eq!((questions.len(), schedule.next()), (2, None), "who is being asked is not asked again");
        assert_eq!(schedule.answer(questions[0].number, Ok(()), now), Some((check(1), Verdict::Healthy)));
        let next = schedule.next().unwrap() - now;
        assert!((9..=11).contains(&next.as_secs()), "{next:?}");
    }

    #[test]
    fn who_stays_is_not_asked_anew_and_who_left_has_no_say() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        watch(&mut schedule, 10, &[1, 2], now);
        let questions = due(&mut schedule, now);
        watch(&mut schedule, 10, &[2, 3], now);
        let asked: Vec<IpAddr> = due(&mut schedule, now).iter().map(|question| question.address).collect();
        assert_eq!(asked, [check(3).address]);
        assert_eq!(schedule.answer(questions[0].number, Ok(()), now), None);
        assert_eq!(schedule.answer(questions[1].number, Ok(()), now), Some((check(2), Verdict::Healthy)));
    }

    #[test]
    fn another_way_of_asking_begins_anew() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        watch(&mut schedule, 10, &[1], now);
        let before = due(&mut schedule, now);
        watch(&mut schedule, 20, &[1], now);
        let after = due(&mut schedule, now);
        assert_eq!(schedule.answer(before[0].number, Ok(()), now), None);
        assert_eq!(schedule.answer(after[0].number, Ok(()), now), Some((check(1), Verdict::Healthy)));
        schedule.forget(&"web".parse().unwrap());
        assert!(schedule.due(now + Duration::from_secs(100)).is_none() && schedule.watched.is_empty());
    }
}
