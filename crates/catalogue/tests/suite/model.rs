//! The property that makes a watch worth having: what it tells, played from any revision on, is what a listing has.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use zeugma_catalogue::{Change, Item, Key, Kind, Outcome, Revision, Transaction};

use super::{Shared, changes, key};

/// Sequences per store. A sequence goes on where the one before ended.
const SEQUENCES: usize = 12;

/// A step of a transaction: on which of a few keys, and what.
#[derive(Debug, Clone)]
enum Step {
    Put(Key, u8),
    Delete(Key),
    ExpectAbsent(Key),
    ExpectCurrent(Key),
}

fn some_key() -> impl Strategy<Value = Key> {
    (0..3usize, 0..3u8).prop_map(|(kind, name)| key(Kind::ALL[kind], &format!("k{name}")))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (some_key(), any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        2 => some_key().prop_map(Step::Delete),
        1 => some_key().prop_map(Step::ExpectAbsent),
        1 => some_key().prop_map(Step::ExpectCurrent),
    ]
}

type State = BTreeMap<Key, (Vec<u8>, Revision)>;

/// Runs transactions and keeps what they must have led to after each; an independent model of the store.
async fn run_transactions(store: &Shared, state: &mut State, count: usize) -> Vec<(Revision, State)> {
    let mut runner = TestRunner::deterministic();
    let sequence = vec(vec(step(), 1..6), count).new_tree(&mut runner).unwrap().current();
    let mut moments = Vec::new();
    for steps in sequence {
        let (transaction, holds, next) = plan(&steps, state);
        match store.commit(transaction).await.unwrap() {
            Outcome::Committed(revision) => {
                assert!(holds, "{steps:?} was committed");
                *state = next
                    .into_iter()
                    .map(|(key, (value, at))| (key, (value, at.unwrap_or(revision))))
                    .collect();
                moments.push((revision, state.clone()));
            }
            Outcome::Conflict { .. } => assert!(!holds, "{steps:?} conflicted"),
        }
    }
    moments
}

type Next = BTreeMap<Key, (Vec<u8>, Option<Revision>)>;

/// The transaction, whether its conditions hold, and what is there afterwards (`None`: at its revision).
fn plan(steps: &[Step], state: &State) -> (Transaction, bool, Next) {
    let mut next: Next =
        state.iter().map(|(key, (value, at))| (key.clone(), (value.clone(), Some(*at)))).collect();
    let (mut transaction, mut conditions) = (Transaction::new(), BTreeMap::new());
    for step in steps {
        transaction = match step.clone() {
            Step::Put(key, value) => {
                next.insert(key.clone(), (vec![value], None));
                transaction.put(key, [value])
            }
            Step::Delete(key) => {
                next.remove(&key);
                transaction.delete(key)
            }
            Step::ExpectAbsent(key) => {
                conditions.insert(key.clone(), !state.contains_key(&key));
                transaction.expect_absent(key)
            }
            Step::ExpectCurrent(key) => {
                conditions.insert(key.clone(), state.contains_key(&key));
                let at = state.get(&key).map_or(Revision(1), |(_, at)| *at);
                transaction.expect(key, at)
            }
        };
    }
    (transaction, conditions.into_values().all(|holds| holds), next)
}

pub(crate) async fn a_watcher_ends_with_what_a_listing_has(store: Shared) {
    let (mut state, mut moments) = (State::new(), vec![]);
    for _ in 0..SEQUENCES {
        moments.extend(run_transactions(&store, &mut state, 10).await);
    }
    assert_eq!(listed(&store).await, state);
    let (last, _) = moments.last().cloned().unwrap();
    for (from, mut view) in moments.into_iter().step_by(7) {
        let mut watch = store.watch(&Kind::ALL, from).await.unwrap();
        let mut seen = from;
        while seen < last {
            let notice = changes(&mut watch).await;
            assert!(notice.windows(2).all(|two| two[0].revision() <= two[1].revision()), "{notice:?}");
            assert!(notice[0].revision() > seen, "{notice:?} after {seen}");
            seen = notice.iter().map(Change::revision).max().unwrap();
            notice.into_iter().for_each(|change| play(&mut view, change));
        }
        assert_eq!(view, state, "from {from}");
    }
}

fn play(view: &mut State, change: Change) {
    match change {
        Change::Put(Item { key, value, revision, .. }) => drop(view.insert(key, (value, revision))),
        Change::Delete { key, .. } => drop(view.remove(&key)),
    }
}

async fn listed(store: &Shared) -> State {
    let mut state = State::new();
    for kind in Kind::ALL {
        let items = store.list(kind, "").await.unwrap().items;
        state.extend(items.into_iter().map(|item| (item.key, (item.value, item.revision))));
    }
    state
}
