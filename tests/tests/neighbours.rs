//! What one network, container or file does must not harm another's.

use std::fs::File;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use netns_fixtures::run;
use serde_json::json;
use zeugma_tests::stage::{Stage, bridge, firewall, network, portmap, published, refusal, with};

#[test]
fn a_bridge_of_others_keeps_its_mac_address() {
    run(|world| -> Result<()> {
        let stage = Stage::new(world)?;
        stage.host.ip("link add br0 type bridge")?;
        let chain = network("net", &[bridge(0)])?;
        let address = || -> Result<_> { Ok(stage.host.ip_json("link show br0")?[0]["address"].clone()) };
        let first = address()?;
        for _ in 0..4 {
            chain.add(&stage.host, &stage.container()?)?;
            ensure!(address()? == first, "it was {first}, it is {}", address()?);
        }
        Ok(())
    });
}

#[test]
fn a_refused_second_add_leaves_the_ports_claimed() {
    run(|world| -> Result<()> {
        let stage = Stage::new(world)?;
        let chain = network("net", &[bridge(0), portmap(), portmap()])?;
        let twice = stage.container()?.with(published(&["8080:80"]));
        ensure!(chain.add(&stage.host, &twice).is_err(), "the same port was published twice");
        let single = network("net", &[bridge(0), portmap()])?;
        let narrow = stage.container()?.with(published(&["127.0.0.1:8080:80"]));
        ensure!(refusal(single.add(&stage.host, &narrow)).code == 101, "it was published again");
        Ok(())
    });
}

#[test]
fn del_of_a_refused_network_leaves_the_interface_of_another() {
    run(|world| -> Result<()> {
        let stage = Stage::new(world)?;
        let (one, other) = (network("one", &[bridge(0)])?, network("other", &[bridge(1)])?);
        let container = stage.container()?;
        one.add(&stage.host, &container)?;
        ensure!(other.add(&stage.host, &container).is_err(), "eth0 was made twice");
        other.del(&stage.host, &container)?;
        one.check(&stage.host, &container)
    });
}

#[test]
fn a_sweep_of_gc_waits_for_adds_in_flight() {
    run(|world| -> Result<()> {
        let stage = Stage::new(world)?;
        let chain = network("net", &[bridge(0)])?;
        let container = stage.container()?;
        chain.add(&stage.host, &container)?;
        chain.del(&stage.host, &container)?;
        // What an ADD holds between its record and its elements.
        let add = File::create(stage.host.run_dir().join("locks/sweep"))?;
        add.lock_shared()?;
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| -> Result<()> {
            scope.spawn(|| sender.send(chain.gc(&stage.host, &[])));
            ensure!(receiver.recv_timeout(Duration::from_millis(500)).is_err(), "GC did not wait");
            ensure!(stage.host.nft_ruleset()?.contains("10.88.0.0/24"), "GC swept before it waited");
            add.unlock()?;
            receiver.recv_timeout(Duration::from_secs(5))??;
            Ok(())
        })?;
        ensure!(!stage.host.nft_ruleset()?.contains("10.88.0.0/24"), "GC left the network's elements");
        Ok(())
    });
}

#[test]
fn a_spoilt_record_stops_neither_del_nor_the_gc_of_others() {
    run(|world| -> Result<()> {
        let stage = Stage::new(world)?;
        let chain = network("net", &[bridge(0), portmap()])?;
        let (spoilt, stale) = (stage.container()?, stage.container()?);
        chain.add(&stage.host, &spoilt)?;
        chain.add(&stage.host, &stale)?;
        let directory = stage.host.run_dir().join("attachments/net").join(spoilt.id()).join("eth0");
        std::fs::write(directory.join("00-bridge"), "{")?;
        chain.gc(&stage.host, &[&spoilt])?;
        let ports = stage.host.ip("-o link show master br0")?.stdout;
        ensure!(ports.lines().count() == 1, "GC did not go on, or too far: {ports}");
        chain.del(&stage.host, &spoilt)?;
        ensure!(stage.host.ip("link show master br0")?.stdout.is_empty(), "DEL left the veth");
        Ok(())
    });
}

#[test]
fn an_isolated_network_takes_back_what_its_earlier_policy_allowed() {
    run(|world| -> Result<()> {
        let stage = Stage::new(world)?;
        for (policy, pairs) in [("same-bridge", 1), ("isolated", 0)] {
            let chain = network("net", &[bridge(0), firewall(policy)])?;
            let container = stage.container()?;
            chain.add(&stage.host, &container)?;
            chain.del(&stage.host, &container)?;
            let set = stage.host.nft("list set inet zeugma same_bridge")?.stdout;
            ensure!(set.matches("comment").count() == pairs, "{policy}: {set}");
        }
        Ok(())
    });
}

#[test]
fn senseless_sizes_and_gateways_are_configuration_errors() {
    run(|world| -> Result<()> {
        let stage = Stage::new(world)?;
        let gateway = json!({"type": "static", "addresses": [{"address": "10.0.0.1/24"}]});
        for change in [json!({"mtu": 1}), json!({"mtu": 1000}), json!({"ipam": gateway})] {
            let chain = network("net", &[with(bridge(0), change.clone())])?;
            let error = refusal(chain.add(&stage.host, &stage.container()?));
            ensure!(error.code == 7, "{change}: {error:?}");
        }
        Ok(())
    });
}
