//! What every store promises, as functions of a fresh store. `promises!` makes a test of each.
//!
//! Nothing here sleeps or judges time: what ends by itself is waited for by watching it go.

mod model;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use zeugma_catalogue::{
    Change, Error, Heartbeat, Item, Key, Kind, LeaseId, Notice, Outcome, Revision, Store, Stored, Table,
    Transaction, Watch,
};

pub(crate) use model::a_watcher_ends_with_what_a_listing_has;

/// A store as its users have it.
pub(crate) type Shared = Arc<dyn Store>;

/// Longer than anything here takes, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A test for each promise. `$on` gives a promise a fresh store.
macro_rules! promises {
    ($on:ident) => {
        promises!($on:
            what_is_written_is_read, a_listing_is_of_one_kind_and_prefix, a_transaction_is_whole_or_nothing,
            one_of_many_creates, no_increment_is_lost, a_change_of_nothing_has_no_revision, limits_are_kept,
            a_watch_tells_past_and_present, a_watch_tells_a_transaction_at_once, a_watch_is_of_its_kinds,
            keys_vanish_with_their_lease, a_lease_that_is_kept_holds, a_revoked_lease_is_no_more,
            a_key_outlives_a_lease_it_left, a_follower_tells_what_is_and_what_changes,
            a_mirror_is_what_the_table_is, a_bad_value_blinds_nobody, a_watcher_ends_with_what_a_listing_has,
        );
    };
    ($on:ident: $($name:ident),+ $(,)?) => {
        $(#[test] fn $name() { $on(suite::$name) })+
    };
}
pub(crate) use promises;

pub(crate) fn key(kind: Kind, name: &str) -> Key {
    Key::new(kind, name).unwrap()
}

fn service(name: &str) -> Key {
    key(Kind::Service, name)
}

/// Commits what must not conflict.
pub(crate) async fn commit(store: &Shared, transaction: Transaction) -> Revision {
    match store.commit(transaction).await.unwrap() {
        Outcome::Committed(revision) => revision,
        Outcome::Conflict { key, found } => panic!("{key} is at {found:?}"),
    }
}

pub(crate) async fn put(store: &Shared, key: &Key, value: &str) -> Revision {
    commit(store, Transaction::new().put(key.clone(), value)).await
}

/// The next thing that comes, or a failure.
pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("nothing came")
}

/// The next changes of a watch.
pub(crate) async fn changes(watch: &mut Watch) -> Vec<Change> {
    match in_time(watch.next()).await {
        Some(Notice::Changes(changes)) => changes,
        other => panic!("{other:?} instead of changes"),
    }
}

/// Changes until there are `count`.
pub(crate) async fn changes_of(watch: &mut Watch, count: usize) -> Vec<Change> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(changes(watch).await);
    }
    all
}

/// `put services/web 1` or `delete services/web`, for comparing.
pub(crate) fn told(changes: &[Change]) -> Vec<String> {
    let line = |change: &Change| match change {
        Change::Put(item) => format!("put {} {}", item.key, String::from_utf8_lossy(&item.value)),
        Change::Delete { key, .. } => format!("delete {key}"),
    };
    changes.iter().map(line).collect()
}

async fn now(store: &Shared) -> Revision {
    store.list(Kind::Service, "").await.unwrap().revision
}

pub(crate) async fn what_is_written_is_read(store: Shared) {
    let web = service("web");
    assert_eq!(store.get(&web).await.unwrap(), None);
    let first = put(&store, &web, "1").await;
    let second = put(&store, &web, "2").await;
    assert!(second > first);
    let item = Item { key: web.clone(), value: b"2".into(), revision: second, lease: None };
    assert_eq!(store.get(&web).await.unwrap(), Some(item));
    commit(&store, Transaction::new().delete(web.clone())).await;
    assert_eq!(store.get(&web).await.unwrap(), None);
}

pub(crate) async fn a_listing_is_of_one_kind_and_prefix(store: Shared) {
    let names = ["web", "web/1", "web/2", "wec", "a"];
    let all = names.iter().fold(Transaction::new(), |t, name| t.put(service(name), "x"));
    let revision =
        commit(&store, all.put(key(Kind::Node, "web"), "x").put(key(Kind::Endpoint, "web/3"), "x")).await;
    let listed = async |prefix| {
        let listing = store.list(Kind::Service, prefix).await.unwrap();
        assert_eq!(listing.revision, revision);
        listing.items.into_iter().map(|item| item.key.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed("").await, ["a", "web", "web/1", "web/2", "wec"]);
    assert_eq!(listed("web/").await, ["web/1", "web/2"]);
    assert_eq!(listed("x").await, [""; 0]);
}

pub(crate) async fn a_transaction_is_whole_or_nothing(store: Shared) {
    let (a, b) = (service("a"), service("b"));
    let first = put(&store, &a, "1").await;
    let writes = || Transaction::new().put(b.clone(), "new").delete(a.clone());
    let outcome = store.commit(writes().expect_absent(a.clone())).await.unwrap();
    assert_eq!(outcome, Outcome::Conflict { key: a.clone(), found: Some(first) });
    let outcome = store.commit(writes().expect(a.clone(), first).expect(b.clone(), first)).await.unwrap();
    assert_eq!(outcome, Outcome::Conflict { key: b.clone(), found: None });
    assert!(store.get(&b).await.unwrap().is_none() && store.get(&a).await.unwrap().is_some());
    let second = commit(&store, writes().expect(a.clone(), first).expect_absent(b.clone())).await;
    assert_eq!(store.get(&b).await.unwrap().unwrap().revision, second);
    assert_eq!(store.get(&a).await.unwrap(), None);
}

pub(crate) async fn one_of_many_creates(store: Shared) {
    let mut tasks = JoinSet::new();
    for number in 0..16 {
        let (store, block) = (store.clone(), key(Kind::Block, "10.0.0.0/24"));
        let claim = Transaction::new().expect_absent(block.clone()).put(block, format!("node-{number}"));
        tasks.spawn(async move { store.commit(claim).await.unwrap() });
    }
    let outcomes = tasks.join_all().await;
    let won = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Committed(_))).count();
    assert_eq!((won, outcomes.len()), (1, 16));
}

pub(crate) async fn no_increment_is_lost(store: Shared) {
    put(&store, &service("count"), "0").await;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..5 {
                increment(&store, &service("count")).await;
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(store.get(&service("count")).await.unwrap().unwrap().value, b"40");
}

/// Compares and swaps until it succeeds.
async fn increment(store: &Shared, key: &Key) {
    loop {
        let item = store.get(key).await.unwrap().unwrap();
        let count: u32 = String::from_utf8(item.value).unwrap().parse().unwrap();
        let next = Transaction::new().expect(key.clone(), item.revision);
        let outcome = store.commit(next.put(key.clone(), (count + 1).to_string())).await.unwrap();
        if matches!(outcome, Outcome::Committed(_)) {
            return;
        }
    }
}

pub(crate) async fn a_change_of_nothing_has_no_revision(store: Shared) {
    let before = put(&store, &service("web"), "1").await;
    let mut watch = store.watch(&Kind::ALL, before).await.unwrap();
    assert_eq!(commit(&store, Transaction::new().delete(service("nothing"))).await, before);
    assert_eq!(commit(&store, Transaction::new().expect(service("web"), before)).await, before);
    put(&store, &service("web"), "2").await;
    assert_eq!(told(&changes(&mut watch).await), ["put services/web 2"]);
}

pub(crate) async fn limits_are_kept(store: Shared) {
    let range = 0..Transaction::KEY_LIMIT;
    let most = range.fold(Transaction::new(), |t, n| {
        let key = service(&n.to_string());
        t.expect_absent(key.clone()).put(key, vec![b'x'; Transaction::BYTE_LIMIT / Transaction::KEY_LIMIT])
    });
    commit(&store, most.clone()).await;
    let more = most.put(service("one-more"), "x");
    assert!(matches!(store.commit(more).await, Err(Error::TooLarge { .. })));
}

pub(crate) async fn a_watch_tells_past_and_present(store: Shared) {
    let (web, start) = (service("web"), now(&store).await);
    let first = put(&store, &web, "1").await;
    put(&store, &web, "2").await;
    let (mut all, mut late) = (
        store.watch(&[Kind::Service], start).await.unwrap(),
        store.watch(&[Kind::Service], first).await.unwrap(),
    );
    assert_eq!(told(&changes_of(&mut all, 2).await), ["put services/web 1", "put services/web 2"]);
    assert_eq!(told(&changes(&mut late).await), ["put services/web 2"]);
    let gone = commit(&store, Transaction::new().delete(web.clone())).await;
    for watch in [&mut all, &mut late] {
        assert_eq!(changes(watch).await, [Change::Delete { key: web.clone(), revision: gone }]);
    }
}

pub(crate) async fn a_watch_tells_a_transaction_at_once(store: Shared) {
    let start = now(&store).await;
    let mut watch = store.watch(&Kind::ALL, start).await.unwrap();
    for round in 0..20 {
        let keys = Kind::ALL.map(|kind| key(kind, "x"));
        commit(&store, keys.into_iter().fold(Transaction::new(), |t, key| t.put(key, round.to_string())))
            .await;
    }
    let mut seen = 0;
    while seen < 20 * Kind::ALL.len() {
        let notice = changes(&mut watch).await;
        let mut sizes = BTreeMap::<Revision, usize>::new();
        notice.iter().for_each(|change| *sizes.entry(change.revision()).or_default() += 1);
        assert!(sizes.values().all(|size| *size == Kind::ALL.len()), "{sizes:?}");
        seen += notice.len();
    }
}

pub(crate) async fn a_watch_is_of_its_kinds(store: Shared) {
    let start = now(&store).await;
    let mut one = store.watch(&[Kind::Node], start).await.unwrap();
    let mut two = store.watch(&[Kind::Node, Kind::Block], start).await.unwrap();
    for kind in Kind::ALL {
        put(&store, &key(kind, "x"), "1").await;
    }
    commit(&store, Transaction::new().delete(key(Kind::Node, "x"))).await;
    assert_eq!(told(&changes_of(&mut one, 2).await), ["put nodes/x 1", "delete nodes/x"]);
    assert_eq!(told(&changes_of(&mut two, 3).await), ["put nodes/x 1", "put blocks/x 1", "delete nodes/x"]);
}

/// Writes nodes under a lease of `ttl` seconds, again if the machine was so slow that it had ended before.
async fn register(store: &Shared, names: &[&str], ttl: u64) -> (LeaseId, Revision) {
    loop {
        let lease = store.grant(Duration::from_secs(ttl)).await.unwrap();
        let nodes =
            names.iter().fold(Transaction::new(), |t, name| t.put_leased(key(Kind::Node, name), "x", lease));
        match store.commit(nodes).await {
            Ok(Outcome::Committed(revision)) => return (lease, revision),
            Err(Error::LeaseEnded { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn keys_vanish_with_their_lease(store: Shared) {
    let start = put(&store, &key(Kind::Node, "stays"), "x").await;
    let mut watch = store.watch(&Kind::ALL, start).await.unwrap();
    let (lease, revision) = register(&store, &["a", "b"], 1).await;
    let changes = changes_of(&mut watch, 4).await;
    assert_eq!(told(&changes), ["put nodes/a x", "put nodes/b x", "delete nodes/a", "delete nodes/b"]);
    assert!(
        matches!(&changes[0], Change::Put(item) if item.lease == Some(lease) && item.revision == revision)
    );
    assert_eq!(changes[2].revision(), changes[3].revision());
    assert_eq!(store.list(Kind::Node, "").await.unwrap().items.len(), 1);
}

/// The other lease, which nobody keeps, is the clock: when it is over, the first has been renewed more than once.
pub(crate) async fn a_lease_that_is_kept_holds(store: Shared) {
    let mut kept = Heartbeat::start(store.clone(), Duration::from_secs(10)).await.unwrap();
    let node = Transaction::new().put_leased(key(Kind::Node, "kept"), "here", kept.lease());
    let start = commit(&store, node).await;
    let mut watch = store.watch(&[Kind::Node], start).await.unwrap();
    register(&store, &["left"], 12).await;
    assert_eq!(told(&changes_of(&mut watch, 2).await), ["put nodes/left x", "delete nodes/left"]);
    assert!(store.get(&key(Kind::Node, "kept")).await.unwrap().is_some());
    store.revoke(kept.lease()).await.unwrap();
    in_time(kept.lost()).await;
}

pub(crate) async fn a_revoked_lease_is_no_more(store: Shared) {
    let (lease, _) = register(&store, &["a"], 600).await;
    store.keep_alive(lease).await.unwrap();
    store.revoke(lease).await.unwrap();
    assert_eq!(store.get(&key(Kind::Node, "a")).await.unwrap(), None);
    store.revoke(lease).await.unwrap();
    assert!(matches!(store.keep_alive(lease).await, Err(Error::LeaseEnded { .. })));
    let late = Transaction::new().put_leased(key(Kind::Node, "a"), "here", lease);
    assert!(matches!(store.commit(late).await, Err(Error::LeaseEnded { .. })));
}

pub(crate) async fn a_key_outlives_a_lease_it_left(store: Shared) {
    let (first, _) = register(&store, &["a"], 600).await;
    put(&store, &key(Kind::Node, "a"), "for good").await;
    store.revoke(first).await.unwrap();
    assert_eq!(store.get(&key(Kind::Node, "a")).await.unwrap().unwrap().lease, None);
    let ((second, _), (third, _)) =
        (register(&store, &["b"], 600).await, register(&store, &["b"], 600).await);
    store.revoke(second).await.unwrap();
    assert_eq!(store.get(&key(Kind::Node, "b")).await.unwrap().unwrap().lease, Some(third));
}

/// A type for the typed layer.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Web {
    pub(crate) port: u16,
}

impl Stored for Web {
    const KIND: Kind = Kind::Service;
}

pub(crate) async fn put_web(store: &Shared, name: &str, port: u16) -> Revision {
    commit(store, Table::put(Transaction::new(), name, &Web { port }, None).unwrap()).await
}

pub(crate) async fn a_follower_tells_what_is_and_what_changes(store: Shared) {
    let mut follower = Table::<Web>::new(store.clone()).follow();
    assert!(in_time(follower.next()).await.unwrap().is_empty());
    put_web(&store, "a", 1).await;
    let difference = in_time(follower.next()).await.unwrap();
    assert_eq!(difference.put["a"].value, Web { port: 1 });
    let both = Table::put(Transaction::new().delete(service("a")), "b", &Web { port: 2 }, None).unwrap();
    let revision = commit(&store, both).await;
    let difference = in_time(follower.next()).await.unwrap();
    assert_eq!(difference.put.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(difference.deleted.iter().collect::<Vec<_>>(), ["a"]);
    assert_eq!(difference.revision, revision);
}

pub(crate) async fn a_mirror_is_what_the_table_is(store: Shared) {
    put_web(&store, "a", 1).await;
    let mut mirror = Table::<Web>::new(store.clone()).mirror();
    in_time(mirror.ready()).await;
    let before = mirror.view();
    put_web(&store, "b", 2).await;
    commit(&store, Transaction::new().delete(service("a"))).await;
    while mirror.get("a").is_some() {
        in_time(mirror.changed()).await;
    }
    assert_eq!(mirror.get("b").unwrap().value, Web { port: 2 });
    assert_eq!(before.rows.keys().collect::<Vec<_>>(), ["a"]);
    assert!(!mirror.health().is_degraded());
}

pub(crate) async fn a_bad_value_blinds_nobody(store: Shared) {
    put_web(&store, "good", 1).await;
    put_web(&store, "spoilt", 2).await;
    let table = Table::<Web>::new(store.clone());
    let mut mirror = table.mirror();
    in_time(mirror.ready()).await;
    put(&store, &service("spoilt"), r#"{"version": 2, "value": "of tomorrow"}"#).await;
    while mirror.view().unreadable.is_empty() {
        in_time(mirror.changed()).await;
    }
    assert!(mirror.view().unreadable["spoilt"].contains("version 2"));
    assert_eq!(mirror.get("spoilt").unwrap().value, Web { port: 2 });
    let rows = table.list("").await.unwrap();
    assert_eq!(rows.rows.keys().collect::<Vec<_>>(), ["good"]);
    assert!(matches!(rows.unreadable["spoilt"], Error::Version { found: 2, known: 1, .. }));
    assert!(matches!(table.get("spoilt").await, Err(Error::Version { .. })));
}
