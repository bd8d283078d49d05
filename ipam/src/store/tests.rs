//! Leases on throw-away directories: speed in counted work, other programs' changes, crashes, boots, the lock.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Instant, SystemTime};

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::alloc::{RangeRaw, RangeSet};

/// In memory where the host has such a place: these tests make many files and are about their number.
fn world() -> (TempDir, Store) {
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let store = Store::new(&"net".parse().unwrap(), &root.path().join("leases"), &root.path().join("run"));
    (root, store)
}

fn ranges(subnet: &str) -> RangeSet {
    let raw: Vec<RangeRaw> = serde_json::from_value(json!([{"subnet": subnet}])).unwrap();
    raw.try_into().unwrap()
}

fn owner(container: &str) -> Owner {
    Owner { container: container.into(), ifname: Some("eth0".into()) }
}

fn add(store: &Store, container: &str, ranges: &RangeSet) -> Option<IpAddr> {
    let mut leases = store.lock_or_create().unwrap();
    let owner = owner(container);
    let mut has = leases.leases_of(&owner).unwrap();
    let given = leases.allocate(&owner, ranges, 0).unwrap().map(|candidate| candidate.address.ip());
    has.extend(given);
    leases.note(&owner, &has);
    leases.finish();
    given
}

fn has(store: &Store, container: &str) -> Vec<IpAddr> {
    let mut leases = store.lock_or_create().unwrap();
    let has = leases.leases_of(&owner(container)).unwrap();
    leases.finish();
    has
}

fn del(store: &Store, container: &str) -> usize {
    let mut leases = store.lock_or_create().unwrap();
    let has = leases.leases_of(&owner(container)).unwrap();
    leases.release(&has).unwrap();
    leases.note(&owner(container), &[]);
    leases.finish();
    has.len()
}

fn listings() -> u32 {
    scan::LISTINGS.get()
}

#[test]
fn sixty_thousand_leases_cost_as_much_as_ten() {
    let (_root, store) = world();
    let pool = ranges("10.0.0.0/16");
    fs::create_dir_all(&store.directory).unwrap();
    for (number, candidate) in pool.candidates(None).take(60_000).enumerate() {
        fs::write(store.lease_path(candidate.address.ip()), format!("old{number}\r\neth0")).unwrap();
    }
    fs::write(store.last_reserved_path(0), "10.0.234.97").unwrap();
    assert_eq!(has(&store, "old77"), vec!["10.0.0.79".parse::<IpAddr>().unwrap()]);
    assert_eq!(listings(), 1, "the index is built once");
    let start = Instant::now();
    for number in 0..100 {
        assert!(add(&store, &format!("new{number}"), &pool).is_some());
        assert_eq!(has(&store, &format!("new{number}")).len(), 1);
        assert_eq!(del(&store, &format!("old{number}")), 1);
        assert_eq!(has(&store, "nobody"), Vec::<IpAddr>::new());
    }
    assert_eq!(listings(), 1, "neither ADD nor DEL nor CHECK lists the directory");
    eprintln!("60,000 leases: {} us for ADD, DEL and two CHECKs", start.elapsed().as_micros() / 100);
}

#[test]
fn an_exhausted_pool_is_listed_once_until_a_release() {
    let (_root, store) = world();
    let pool = ranges("10.0.0.0/24");
    assert!((0..253).all(|number| add(&store, &format!("c{number}"), &pool).is_some()));
    let before = listings();
    assert!((0..10).all(|_| add(&store, "late", &pool).is_none()));
    assert_eq!(listings(), before + 1);
    del(&store, "c9");
    assert_eq!(add(&store, "late", &pool), Some("10.0.0.11".parse().unwrap()));
}

#[test]
fn a_long_run_of_taken_addresses_is_skipped_by_one_listing() {
    let (_root, store) = world();
    let pool = ranges("fd00::/64");
    fs::create_dir_all(&store.directory).unwrap();
    for number in 2..500 {
        fs::write(store.directory.join(format!("fd00::{number:x}")), format!("c{number}\r\neth0")).unwrap();
    }
    assert_eq!(add(&store, "new", &pool), Some("fd00::1f4".parse().unwrap()));
}

#[test]
fn the_round_robins_place_is_no_longer_than_its_address() {
    let (_root, store) = world();
    let mut leases = store.lock_or_create().unwrap();
    for address in ["10.0.0.100", "10.0.0.9"] {
        assert!(leases.reserve(&owner("c1"), address.parse().unwrap(), 0).unwrap());
        assert_eq!(fs::read_to_string(store.last_reserved_path(0)).unwrap(), address);
    }
}

#[test]
fn changes_of_another_program_are_noticed() {
    let (_root, store) = world();
    let pool = ranges("10.0.0.0/24");
    add(&store, "c1", &pool);
    fs::write(store.directory.join("10.0.0.77"), "theirs\r\neth0").unwrap();
    assert_eq!(has(&store, "theirs").len(), 1);
    fs::remove_file(store.directory.join("10.0.0.2")).unwrap();
    assert_eq!(has(&store, "c1").len(), 0);
    fs::remove_dir_all(&store.directory).unwrap();
    assert_eq!(has(&store, "theirs").len(), 0);
    assert_eq!(add(&store, "c1", &pool), Some("10.0.0.2".parse().unwrap()));
}

#[test]
fn a_lease_whose_contents_changed_in_place_is_not_believed() {
    let (_root, store) = world();
    add(&store, "c1", &ranges("10.0.0.0/24"));
    fs::write(store.directory.join("10.0.0.2"), "c2\r\neth0").unwrap();
    assert_eq!(has(&store, "c1").len(), 0);
    assert_eq!(has(&store, "c2").len(), 1);
}

#[test]
fn blank_leases_of_a_killed_writer_are_free_again() {
    let (_root, store) = world();
    fs::create_dir_all(&store.directory).unwrap();
    fs::write(store.directory.join("10.0.0.2"), "").unwrap();
    assert_eq!(add(&store, "c1", &ranges("10.0.0.0/24")), Some("10.0.0.2".parse().unwrap()));
}

#[test]
fn leases_of_an_earlier_boot_are_reclaimed_unless_the_journal_has_them() {
    let (_root, store) = world();
    fs::create_dir_all(&store.directory).unwrap();
    let old = |name: &str, contents: &str| {
        let path = store.directory.join(name);
        fs::write(&path, contents).unwrap();
        fs::File::options().append(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    };
    old("10.0.0.2", "gone\r\neth0");
    old("10.0.0.3", "kept\r\neth0");
    old("10.0.0.4", "kept\r\neth1");
    old("10.0.0.5", "kept");
    fs::write(store.directory.join("10.0.0.6"), "young\r\neth0").unwrap();
    fs::create_dir_all(store.attachments.join("kept/eth0")).unwrap();
    let left = |store: &Store| store.taken().unwrap().iter().map(IpAddr::to_string).collect::<Vec<_>>();
    has(&store, "gone");
    assert_eq!(left(&store), ["10.0.0.3", "10.0.0.5", "10.0.0.6"]);
    old("10.0.0.9", "later\r\neth0");
    assert_eq!(has(&store, "later").len(), 1, "only the first build of a boot reclaims");
}

#[test]
fn without_a_writable_index_everything_works() {
    let (root, store) = world();
    fs::write(root.path().join("run"), "a file where the run directory should be").unwrap();
    let pool = ranges("10.0.0.0/24");
    assert!(add(&store, "c1", &pool).is_some() && add(&store, "c2", &pool).is_some());
    assert_eq!((has(&store, "c1").len(), del(&store, "c1"), has(&store, "c1").len()), (1, 1, 0));
}

#[test]
fn the_lock_is_waited_for_with_a_bound() {
    let (_root, mut store) = world();
    store.patience = Duration::from_millis(50);
    let holder = store.lock_or_create().unwrap();
    assert!(matches!(store.lock(), Err(StoreError::Locked { .. })));
    drop(holder);
    store.patience = PATIENCE;
    assert!(store.lock().unwrap().is_some(), "the waiter that came too late does not keep it");
}

#[test]
fn threads_never_get_the_same_address() {
    let (_root, store) = world();
    let pool = ranges("10.0.0.0/22");
    let given = |thread: usize| {
        let (store, pool) = (&store, &pool);
        move || {
            (0..50)
                .map(|number| add(store, &format!("c{thread}-{number}"), pool).unwrap())
                .collect::<Vec<_>>()
        }
    };
    let all: BTreeSet<IpAddr> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|thread| scope.spawn(given(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(all.len(), 400);
}

/// One step on the store; the number names one of a few containers.
#[derive(Debug, Clone)]
enum Step {
    Add(u8),
    Del(u8),
    /// Killed after the lease was written, before index and stamp.
    AddKilled(u8),
    /// Killed after the leases were removed.
    DelKilled(u8),
    /// Another program under the same lock.
    TheirAdd(u8),
    TheirDel(u8),
    Reboot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0u8..7, 0u8..6).prop_map(|(kind, container)| match kind {
        0 => Step::Add(container),
        1 => Step::Del(container),
        2 => Step::AddKilled(container),
        3 => Step::DelKilled(container),
        4 => Step::TheirAdd(container),
        5 => Step::TheirDel(container),
        _ => Step::Reboot,
    });
    proptest::collection::vec(step, 1..40)
}

type Model = BTreeMap<IpAddr, u8>;

fn their_add(store: &Store, container: u8, pool: &RangeSet) -> Option<IpAddr> {
    fs::create_dir_all(&store.directory).unwrap();
    let taken = store.taken().unwrap();
    let free = pool.first_free(None, |address| taken.contains(&address))?.address.ip();
    fs::write(store.lease_path(free), format!("c{container}\r\neth0")).unwrap();
    Some(free)
}

/// Does the step; returns the address that it handed out.
fn apply(store: &Store, pool: &RangeSet, model: &mut Model, step: &Step) -> Option<(IpAddr, u8)> {
    match *step {
        Step::Add(c) => add(store, &format!("c{c}"), pool).map(|address| (address, c)),
        Step::AddKilled(c) => {
            let mut leases = store.lock_or_create().unwrap();
            leases.allocate(&owner(&format!("c{c}")), pool, 0).unwrap().map(|given| (given.address.ip(), c))
        }
        Step::TheirAdd(c) => their_add(store, c, pool).map(|address| (address, c)),
        Step::Del(c) | Step::DelKilled(c) | Step::TheirDel(c) => {
            let its: Vec<IpAddr> =
                model.iter().filter(|(_, has)| **has == c).map(|(address, _)| *address).collect();
            match step {
                Step::Del(_) => assert_eq!(del(store, &format!("c{c}")), its.len()),
                Step::DelKilled(_) => store.lock_or_create().unwrap().release(&its).unwrap(),
                _ => its.iter().for_each(|&address| fs::remove_file(store.lease_path(address)).unwrap()),
            }
            model.retain(|_, has| *has != c);
            None
        }
        Step::Reboot => {
            let _ = fs::remove_dir_all(&store.index.directory);
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_is_lost_or_given_twice_under_any_order(v6: bool, steps in steps()) {
        let (_root, store) = world();
        let pool = ranges(if v6 { "fd00::/125" } else { "10.0.0.0/28" });
        let mut model = Model::new();
        for step in &steps {
            if let Some((address, container)) = apply(&store, &pool, &mut model, step) {
                prop_assert!(model.insert(address, container).is_none(), "{} twice", address);
            }
            prop_assert_eq!(store.taken().unwrap(), model.keys().copied().collect::<BTreeSet<_>>());
        }
        for container in 0u8..6 {
            let its: BTreeSet<IpAddr> = model.iter().filter(|(_, has)| **has == container).map(|(a, _)| *a).collect();
            prop_assert_eq!(has(&store, &format!("c{container}")).into_iter().collect::<BTreeSet<_>>(), its);
        }
    }
}
