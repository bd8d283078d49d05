//! The embedded store: what every store promises, and what a file does.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod suite;

use std::sync::Arc;

use suite::{Shared, changes_of, commit, in_time, key, promises, put, put_web, told};
use tempfile::TempDir;
use zeugma_catalogue::{Embedded, Error, Health, Kind, Notice, Revision, Table, Transaction};

promises!(on_embedded);

/// Runs `promise` on the store in a fresh file.
fn on_embedded(promise: impl AsyncFnOnce(Shared)) {
    in_directory(async |directory| promise(open(&directory).await).await);
}

/// Time is the runtime's: it stands still while something is done, and jumps when all wait.
fn in_directory(story: impl AsyncFnOnce(TempDir)) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(story(TempDir::new().unwrap()));
}

async fn open(directory: &TempDir) -> Shared {
    Arc::new(Embedded::open(directory.path().join("lib/catalogue.redb")).await.unwrap())
}

#[test]
fn a_second_process_is_told_that_the_file_is_taken() {
    in_directory(async |directory| {
        let first = open(&directory).await;
        let path = directory.path().join("lib/catalogue.redb");
        let error = Embedded::open(&path).await.unwrap_err();
        assert!(matches!(&error, Error::Owned { path: taken } if *taken == path));
        assert!(error.to_string().contains("in use by another process"), "{error}");
        drop(first);
        Embedded::open(&path).await.unwrap();
    });
}

#[test]
fn everything_is_there_after_a_restart() {
    in_directory(async |directory| {
        let store = open(&directory).await;
        let revision = put(&store, &key(Kind::Node, "a"), "1").await;
        let mut watch = store.watch(&Kind::ALL, revision).await.unwrap();
        drop(store);
        assert_eq!(in_time(watch.next()).await, None);
        let store = open(&directory).await;
        assert_eq!(store.get(&key(Kind::Node, "a")).await.unwrap().unwrap().revision, revision);
        let next = put(&store, &key(Kind::Node, "b"), "2").await;
        assert_eq!(next, Revision(revision.0 + 1));
        let mut watch = store.watch(&Kind::ALL, Revision(0)).await.unwrap();
        assert_eq!(told(&changes_of(&mut watch, 2).await), ["put nodes/a 1", "put nodes/b 2"]);
    });
}

#[test]
fn a_restart_gives_a_lease_its_time_anew() {
    in_directory(async |directory| {
        let store = open(&directory).await;
        let lease = store.grant(std::time::Duration::from_secs(30)).await.unwrap();
        let start = commit(&store, Transaction::new().put_leased(key(Kind::Node, "a"), "here", lease)).await;
        tokio::time::advance(std::time::Duration::from_secs(20)).await;
        drop(store);
        let store = open(&directory).await;
        tokio::time::advance(std::time::Duration::from_secs(20)).await;
        assert!(store.get(&key(Kind::Node, "a")).await.unwrap().is_some());
        let mut watch = store.watch(&Kind::ALL, start).await.unwrap();
        assert_eq!(told(&changes_of(&mut watch, 1).await), ["delete nodes/a"]);
    });
}

#[test]
fn history_is_bounded_and_says_where_it_ends() {
    in_directory(async |directory| {
        let path = directory.path().join("catalogue.redb");
        let store: Shared = Arc::new(Embedded::with_history(&path, 4).await.unwrap());
        for round in 0..10 {
            put(&store, &key(Kind::Node, "a"), &round.to_string()).await;
        }
        let mut late = store.watch(&Kind::ALL, Revision(5)).await.unwrap();
        assert_eq!(in_time(late.next()).await, Some(Notice::Compacted));
        assert_eq!(in_time(late.next()).await, None);
        let mut early = store.watch(&Kind::ALL, Revision(6)).await.unwrap();
        assert_eq!(changes_of(&mut early, 4).await.len(), 4);
    });
}

/// More happens than the watch and the history hold, while the follower looks away.
#[test]
fn a_follower_that_lost_history_tells_the_difference() {
    in_directory(async |directory| {
        let path = directory.path().join("catalogue.redb");
        let store: Shared = Arc::new(Embedded::with_history(&path, 4).await.unwrap());
        put_web(&store, "stays", 1).await;
        put_web(&store, "goes", 1).await;
        let mut follower = Table::<suite::Web>::new(store.clone()).follow();
        assert_eq!(in_time(follower.next()).await.unwrap().put.len(), 2);
        for round in 0..100 {
            put_web(&store, "changes", round).await;
        }
        commit(&store, Transaction::new().delete(key(Kind::Service, "goes"))).await;
        let mut last = in_time(follower.next()).await.unwrap();
        let mut told = 1;
        while last.deleted.is_empty() {
            last = in_time(follower.next()).await.unwrap();
            told += 1;
        }
        assert!(told < 100, "nothing was lost");
        assert_eq!(last.deleted.iter().collect::<Vec<_>>(), ["goes"]);
        assert_eq!(
            last.put.into_iter().map(|(name, row)| (name, row.value.port)).collect::<Vec<_>>(),
            [("changes".to_owned(), 99)]
        );
    });
}

#[test]
fn what_is_no_database_is_refused_and_left_alone() {
    in_directory(async |directory| {
        let path = directory.path().join("catalogue.redb");
        std::fs::write(&path, "something else").unwrap();
        let error = Embedded::open(&path).await.unwrap_err().to_string();
        assert!(error.contains("cannot open") && error.contains("catalogue.redb"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "something else");
    });
}

#[test]
fn a_half_made_file_is_made_anew() {
    in_directory(async |directory| {
        std::fs::create_dir(directory.path().join("lib")).unwrap();
        let left = directory.path().join("lib/catalogue.redb.new");
        std::fs::write(&left, vec![0; 5000]).unwrap();
        let store = open(&directory).await;
        put(&store, &key(Kind::Node, "a"), "1").await;
        assert!(!left.exists());
        assert_eq!(*store.health().borrow(), Health::Healthy);
    });
}
