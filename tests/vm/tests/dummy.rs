//! `dummy`: an interface that leads nowhere and holds addresses.

use anyhow::{Result, ensure};
use netns_fixtures::{Chain, run};
use serde_json::json;
use zeugma_tests::stage::{Stage, network, refusal};

fn chain() -> Result<Chain> {
    let ipam = json!({"type": "host-local", "ranges": [
        [{"subnet": "10.7.0.0/24"}], [{"subnet": "2001:db8:7::/64"}],
    ]});
    network("net", &[json!({"type": "dummy", "ipam": ipam})])
}

#[test]
fn its_addresses_answer_inside_the_container() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        let container = stage.container()?;
        let result = chain.add(&stage.host, &container)?;
        let inside = container.container();
        inside.ip("link set lo up")?;
        let _server = inside.tcp_echo("[::]:80", "own")?;
        assert_eq!(inside.ask_tcp("10.7.0.2:80")?, "own 10.7.0.2");
        assert_eq!(inside.ask_tcp("[2001:db8:7::2]:80")?, "own 2001:db8:7::2");
        let link = &inside.ip_json("-d link show eth0")?[0];
        assert_eq!(link["linkinfo"]["info_kind"], "dummy");
        let told = &result["interfaces"][0];
        assert_eq!((&told["mac"], &told["mtu"]), (&link["address"], &link["mtu"]));
        chain.check(&stage.host, &container)
    });
}

#[test]
fn without_addresses_it_is_refused() {
    run(|world| {
        let stage = Stage::new(world)?;
        let error =
            refusal(network("net", &[json!({"type": "dummy"})])?.add(&stage.host, &stage.container()?));
        ensure!(error.code == 7 && error.msg.contains("ipam"), "{error}");
        Ok(())
    });
}

#[test]
fn check_misses_its_address() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        let container = stage.container()?;
        chain.add(&stage.host, &container)?;
        container.container().ip("addr del 10.7.0.2/24 dev eth0")?;
        let error = refusal(chain.check(&stage.host, &container));
        ensure!(error.code == 110 && error.msg.contains("10.7.0.2"), "{error}");
        Ok(())
    });
}

#[test]
fn del_gc_and_a_namespace_that_is_gone_leave_nothing() {
    run(|world| {
        let (stage, chain) = (Stage::new(world)?, chain()?);
        let before = stage.residue()?;
        let (one, two, gone) = (stage.container()?, stage.container()?, stage.container()?);
        for container in [&one, &two, &gone] {
            chain.add(&stage.host, container)?;
        }
        chain.del(&stage.host, &one)?;
        gone.container().remove()?;
        chain.gc(&stage.host, &[])?;
        for container in [&one, &two] {
            assert_eq!(container.container().ip_json("link show type dummy")?, json!([]));
        }
        stage.ensure_unchanged(&before)
    });
}
