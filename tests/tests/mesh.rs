//! Services across hosts: three machines with agents that share an etcd, and the traffic between their containers.

use anyhow::ensure;
use netns_fixtures::run;
use zeugma_tests::cluster::{Cluster, Underlay};

/// The fixture itself: machines have leases of their own, and can be cut off.
#[test]
fn hosts_of_a_cluster_are_machines_of_their_own() {
    run(|world| {
        let cluster = Cluster::plan(world).underlay(Underlay::Routed).build(&["a", "b"])?;
        for (host, name) in [("a", "one"), ("b", "two")] {
            cluster.zeugma(host, "network create front --subnet 10.1.0.0/24")?;
            let (_container, addresses) = cluster.container(host, "front", name)?;
            ensure!(addresses == ["10.1.0.2"], "leases are shared: {addresses:?}");
        }
        ensure!(cluster.address("b", 4) == "198.51.100.2", "not behind the router");
        let (a, b) = (cluster.host("a"), cluster.host("b"));
        a.ping("198.51.100.2")?;
        cluster.cut("b")?;
        ensure!(a.ping("198.51.100.2").is_err() && b.ping("192.0.2.250").is_err(), "b is not cut off");
        cluster.join("b")?;
        cluster.cut_from_etcd("b")?;
        ensure!(b.ping("192.0.2.250").is_err() && b.ping("192.0.2.1").is_ok(), "b reaches etcd");
        cluster.join_to_etcd("b")?;
        b.ping("192.0.2.250")
    });
}
