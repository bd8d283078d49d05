//! The store in etcd, against a real one: what every store promises, and what happens when etcd or the way to it fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod cluster;
mod secure;
#[path = "../suite/mod.rs"]
mod suite;

use std::sync::Arc;

use anyhow::Result;
use cluster::{Cluster, inside};
use netns_fixtures::run;
use suite::{Shared, changes_of, commit, in_time, key, promises, put, put_web, told};
use zeugma_catalogue::etcd::{Etcd, Settings};
use zeugma_catalogue::{
    Error, Health, Kind, Mirror, Notice, Revision, Stored, Table, Transaction, identified,
};

promises!(on_etcd);

/// Runs `promise` on the store in a fresh etcd.
fn on_etcd(promise: impl AsyncFnOnce(Shared) + Send) {
    run(|world| {
        let cluster = Cluster::start(world, 1)?;
        inside(&cluster.host, async || {
            promise(open(cluster.settings())).await;
            Ok(())
        })
    });
}

fn open(settings: Settings) -> Shared {
    Arc::new(Etcd::open(settings).unwrap())
}

/// Waits until the store says that etcd does not answer, or that it does again.
async fn await_health(store: &Shared, degraded: bool) -> Health {
    let mut health = store.health();
    in_time(health.wait_for(|health| health.is_degraded() == degraded)).await.unwrap().clone()
}

async fn await_row<T: Stored>(mirror: &mut Mirror<T>, name: &str) {
    while mirror.get(name).is_none() {
        in_time(mirror.changed()).await;
    }
}

#[test]
fn others_find_the_keys_where_the_documentation_says() {
    run(|world| {
        let cluster = Cluster::start(world, 1)?;
        inside(&cluster.host, async || {
            put_web(&open(cluster.settings()), "web", 80).await;
            let found = cluster.etcdctl(&["get", "/zeugma/services/web"])?;
            assert_eq!(found, "/zeugma/services/web\n{\"version\":1,\"value\":{\"port\":80}}\n");
            Ok(())
        })
    });
}

#[test]
fn clusters_share_an_etcd_by_their_prefixes() {
    run(|world| {
        let cluster = Cluster::start(world, 1)?;
        inside(&cluster.host, async || {
            let one = open(cluster.settings());
            let other = open(Settings { prefix: "/zeugma-2/".into(), ..cluster.settings() });
            let start = put(&one, &key(Kind::Node, "a"), "one").await;
            let mut watch = one.watch(&Kind::ALL, start).await?;
            put(&other, &key(Kind::Node, "a"), "other").await;
            put(&one, &key(Kind::Node, "b"), "one").await;
            assert_eq!(told(&changes_of(&mut watch, 1).await), ["put nodes/b one"]);
            assert_eq!(other.get(&key(Kind::Node, "a")).await?.unwrap().value, b"other");
            assert_eq!(other.list(Kind::Node, "").await?.items.len(), 1);
            Ok(())
        })
    });
}

#[test]
fn a_listing_of_many_pages_is_of_one_moment() {
    run(|world| {
        let cluster = Cluster::start(world, 1)?;
        inside(&cluster.host, async || {
            let store = open(cluster.settings());
            for chunk in 0..25 {
                let names = (0..100).map(|n| key(Kind::Endpoint, &format!("{:04}", chunk * 100 + n)));
                commit(&store, names.fold(Transaction::new(), |t, key| t.put(key, "x"))).await;
            }
            let names = store
                .list(Kind::Endpoint, "")
                .await?
                .items
                .into_iter()
                .map(|item| item.key.name().to_owned());
            assert!(names.eq((0..2500).map(|n| format!("{n:04}"))));
            Ok(())
        })
    });
}

#[test]
fn a_watch_loses_nothing_when_etcd_is_restarted() {
    run(|world| {
        let mut cluster = Cluster::start(world, 1)?;
        let (host, settings) = (cluster.host.clone(), cluster.settings());
        inside(&host, async move || {
            let store = open(settings);
            let start = put(&store, &key(Kind::Node, "0"), "x").await;
            let mut watch = store.watch(&[Kind::Node], start).await?;
            put(&store, &key(Kind::Node, "1"), "x").await;
            assert_eq!(told(&changes_of(&mut watch, 1).await), ["put nodes/1 x"]);
            cluster.kill(0);
            let Health::Degraded { why, .. } = await_health(&store, true).await else { unreachable!() };
            assert!(why.contains("http://127.0.0.1:2379 does not answer"), "{why}");
            let error = store.get(&key(Kind::Node, "1")).await.unwrap_err();
            assert!(matches!(error, Error::Unavailable { .. }), "{error}");
            cluster.run(0)?;
            cluster.await_health(&[])?;
            for name in ["2", "3", "4"] {
                cluster.etcdctl(&["put", &format!("/zeugma/nodes/{name}"), "x"])?;
            }
            let lines = told(&changes_of(&mut watch, 3).await);
            assert_eq!(lines, ["put nodes/2 x", "put nodes/3 x", "put nodes/4 x"]);
            await_health(&store, false).await;
            put(&store, &key(Kind::Node, "5"), "x").await;
            assert_eq!(told(&changes_of(&mut watch, 1).await), ["put nodes/5 x"]);
            Ok(())
        })
    });
}

#[test]
fn compacted_history_is_said_to_be() {
    run(|world| {
        let cluster = Cluster::start(world, 1)?;
        inside(&cluster.host, async || {
            let store = open(cluster.settings());
            let first = put(&store, &key(Kind::Node, "a"), "1").await;
            put(&store, &key(Kind::Node, "a"), "2").await;
            let last = put(&store, &key(Kind::Node, "a"), "3").await;
            cluster.etcdctl(&["compaction", &last.to_string()])?;
            let mut watch = store.watch(&[Kind::Node], Revision(first.0 - 1)).await?;
            assert_eq!(in_time(watch.next()).await, Some(Notice::Compacted));
            assert_eq!(in_time(watch.next()).await, None);
            Ok(())
        })
    });
}

#[test]
fn a_watch_does_not_go_on_in_a_store_that_was_made_anew() {
    run(|world| {
        let mut cluster = Cluster::start(world, 1)?;
        let (host, settings) = (cluster.host.clone(), cluster.settings());
        inside(&host, async move || {
            let store = open(settings);
            identified(&store, "one").await?;
            let start = put(&store, &key(Kind::Node, "a"), "x").await;
            let mut watch = store.watch(&[Kind::Node], start).await?;
            cluster.kill(0);
            await_health(&store, true).await;
            // More happens in it than had happened in the other one.
            cluster.empty(0)?;
            cluster.run(0)?;
            cluster.await_health(&[])?;
            for _ in 0..=start.0 {
                cluster.etcdctl(&["put", "/zeugma/nodes/stranger", "x"])?;
            }
            assert_eq!(in_time(watch.next()).await, Some(Notice::Compacted));
            Ok(())
        })
    });
}

/// Resets every connection of the store; the test's own goes by another port.
const CUT: &str = "table inet cut { chain in {
    type filter hook input priority 0;
    tcp flags rst accept
    tcp dport 2379 reject with tcp reset
    tcp sport 2379 reject with tcp reset
}
}";

#[test]
fn cut_off_a_mirror_serves_what_it_knows_and_then_catches_up_by_the_difference() {
    run(|world| {
        let cluster = Cluster::start(world, 1)?;
        inside(&cluster.host, async || {
            let store = open(cluster.settings());
            for name in ["stays", "goes", "changes"] {
                put_web(&store, name, 1).await;
            }
            let table = Table::<suite::Web>::new(store.clone());
            let (mut mirror, mut follower) = (table.mirror(), table.follow());
            in_time(mirror.ready()).await;
            assert_eq!(in_time(follower.next()).await?.put.len(), 3);
            cluster.host.nft(CUT)?;
            await_health(&store, true).await;
            assert!(mirror.health().is_degraded());
            assert_eq!(mirror.view().rows.len(), 3);
            cluster.etcdctl(&["del", "/zeugma/services/goes"])?;
            for port in 2..9 {
                let value = format!("{{\"version\":1,\"value\":{{\"port\":{port}}}}}");
                cluster.etcdctl(&["put", "/zeugma/services/changes", &value])?;
            }
            compact(&cluster)?;
            cluster.host.nft("delete table inet cut")?;
            let difference = in_time(follower.next()).await?;
            assert_eq!(difference.put.keys().collect::<Vec<_>>(), ["changes"]);
            assert_eq!(difference.put["changes"].value.port, 8);
            assert_eq!(difference.deleted.iter().collect::<Vec<_>>(), ["goes"]);
            while mirror.get("goes").is_some() {
                in_time(mirror.changed()).await;
            }
            assert!(mirror.get("stays").is_some());
            await_health(&store, false).await;
            Ok(())
        })
    });
}

/// Forgets all history.
fn compact(cluster: &Cluster) -> Result<()> {
    let got = cluster.etcdctl(&["get", "x", "-w", "json"])?;
    let rest = got.split("\"revision\":").nth(1).unwrap();
    let revision: String = rest.chars().take_while(char::is_ascii_digit).collect();
    cluster.etcdctl(&["compaction", &revision]).map(drop)
}

#[test]
fn without_a_quorum_what_is_known_is_served_and_the_state_says_so() {
    run(|world| {
        let mut cluster = Cluster::start(world, 3)?;
        let (host, mut settings) = (cluster.host.clone(), cluster.settings());
        settings.timeout = std::time::Duration::from_secs(2);
        inside(&host, async move || {
            let store = open(settings);
            put_web(&store, "web", 1).await;
            let mut mirror = Table::<suite::Web>::new(store.clone()).mirror();
            in_time(mirror.ready()).await;
            cluster.kill(1);
            cluster.kill(2);
            await_health(&store, true).await;
            assert!(mirror.health().is_degraded());
            assert_eq!(mirror.get("web").unwrap().value.port, 1);
            let write = Transaction::new().put(key(Kind::Node, "a"), "x");
            let error = store.commit(write).await.unwrap_err();
            let said = matches!(error, Error::Unavailable { .. } | Error::Unacknowledged { .. });
            assert!(said && error.to_string().starts_with("write nodes/a: etcd at http://"), "{error}");
            cluster.run(2)?;
            await_health(&store, false).await;
            put_web(&store, "new", 2).await;
            await_row(&mut mirror, "new").await;
            Ok(())
        })
    });
}

#[test]
fn one_of_three_members_may_die() {
    run(|world| {
        let mut cluster = Cluster::start(world, 3)?;
        let (host, settings) = (cluster.host.clone(), cluster.settings());
        inside(&host, async move || {
            let store = open(settings);
            let start = put(&store, &key(Kind::Node, "0"), "x").await;
            let mut watch = store.watch(&[Kind::Node], start).await?;
            cluster.kill(0);
            // It may have been the leader: a write fails until there is another, or goes unacknowledged.
            let write = || Transaction::new().put(key(Kind::Node, "1"), "x");
            while store.commit(write()).await.is_err() {
                await_health(&store, false).await;
            }
            assert_eq!(told(&changes_of(&mut watch, 1).await)[0], "put nodes/1 x");
            Ok(())
        })
    });
}

#[test]
fn an_agent_starts_before_its_etcd() {
    run(|world| {
        let mut cluster = Cluster::prepare(world, 1, &[])?;
        let (host, settings) = (cluster.host.clone(), cluster.settings());
        inside(&host, async move || {
            let store = open(settings);
            let mut mirror = Table::<suite::Web>::new(store.clone()).mirror();
            await_health(&store, true).await;
            assert!(matches!(store.watch(&Kind::ALL, Revision(0)).await, Err(Error::Unavailable { .. })));
            cluster.run(0)?;
            await_health(&store, false).await;
            put_web(&store, "web", 1).await;
            await_row(&mut mirror, "web").await;
            Ok(())
        })
    });
}
