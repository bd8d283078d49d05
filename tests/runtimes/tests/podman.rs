//! Promises kept for Podman 4 with the network backend "cni".

use anyhow::{Result, ensure};
use serde_json::Value;
use zeugma_runtime_tests::*;

fn with_podman(test: impl FnOnce(&Node, &Podman<'_>) -> Result<()> + Send) {
    if skip_without(&["podman", "conmon"]) {
        return;
    }
    Node::run(|node| test(node, &Podman::set_up(node)?));
}

#[test]
fn published_port_answers_outside_until_rm() {
    with_podman(|node, podman| {
        podman.serve("web", &["-p", "8080:80"])?;
        let answer = eventually("the port answers", || node.ask(&format!("{NODE_ADDRESS}:8080")))?;
        assert_eq!(answer, "web");
        podman.run(&["rm", "--force", "--time=0", "web"])?;
        ensure!(node.ask(&format!("{NODE_ADDRESS}:8080")).is_err(), "the port answers without its container");
        Ok(())
    });
}

#[test]
fn containers_on_a_network_talk_by_address() {
    with_podman(|_, podman| {
        podman.run(&["network", "create", "lab"])?;
        podman.serve("one", &["--network=lab"])?;
        podman.serve("two", &["--network=lab"])?;
        for (asks, serves) in [("one", "two"), ("two", "one")] {
            let address = podman.address(serves, "lab")?;
            let ask = || podman.run(&["exec", asks, "nc", "-w", "2", &address, "80"]);
            assert_eq!(eventually("the other container answers", ask)?, serves);
        }
        Ok(())
    });
}

#[test]
fn network_is_created_listed_inspected_and_removed() {
    with_podman(|node, podman| {
        podman.run(&["network", "create", "--subnet=10.79.0.0/24", "lab"])?;
        ensure!(
            podman.run(&["network", "ls", "--quiet"])?.lines().any(|line| line == "lab"),
            "lab is not listed"
        );
        let seen: Value = serde_json::from_str(&podman.run(&["network", "inspect", "lab"])?)?;
        assert_eq!(seen[0]["subnets"][0]["gateway"], "10.79.0.1");

        podman.serve("web", &["--network=lab"])?;
        podman.run(&["rm", "--force", "--time=0", "web"])?;
        podman.run(&["network", "rm", "lab"])?;
        ensure!(!podman.run(&["network", "ls", "--quiet"])?.contains("lab"), "lab is still listed");
        let mut words = vec!["10.79.0.1", "10.79.0.2"];
        if !Plugins::find()?.are_ours() {
            // Zeugma masquerades the network, not the container, and keeps that: no DEL knows that it is the last.
            words.push("10.79.0.0");
        }
        eventually("the network is forgotten", || node.ensure_forgotten(&words))
    });
}

#[test]
fn removed_container_leaves_no_residue() {
    with_podman(|node, podman| {
        let first = podman.serve("first", &["-p", "8080:80"])?;
        let address = podman.address("first", "podman")?;
        podman.run(&["rm", "--force", "--time=0", "first"])?;
        eventually("the container is forgotten", || node.ensure_forgotten(&[&first, &address, "8080"]))?;

        let before = node.residue()?;
        podman.serve("second", &["-p", "8081:80", "-p", "8081:80/udp"])?;
        eventually("the port answers", || node.ask(&format!("{NODE_ADDRESS}:8081")))?;
        podman.run(&["rm", "--force", "--time=0", "second"])?;
        eventually("nothing is left", || node.ensure_restored(&before))
    });
}

#[test]
fn requested_addresses_are_given() {
    with_podman(|_, podman| {
        podman.run(&["network", "create", "--subnet=10.79.0.0/24", "lab"])?;
        podman.serve("web", &["--network=lab", "--ip=10.79.0.50", "--mac-address=02:00:00:00:00:50"])?;
        let attachment = podman.attachment("web", "lab")?;
        assert_eq!(attachment["IPAddress"], "10.79.0.50");
        assert_eq!(attachment["MacAddress"], "02:00:00:00:00:50");
        Ok(())
    });
}

#[test]
fn dual_stack_network_gives_both_families() {
    with_podman(|_, podman| {
        podman.run(&[
            "network",
            "create",
            "--ipv6",
            "--subnet=fd00:79::/64",
            "--subnet=10.79.0.0/24",
            "lab",
        ])?;
        podman.serve("one", &["--network=lab"])?;
        podman.serve("two", &["--network=lab"])?;
        let two = podman.attachment("two", "lab")?;
        let six = two["GlobalIPv6Address"].as_str().unwrap_or_default();
        let four = two["IPAddress"].as_str().unwrap_or_default();
        for address in [six, four] {
            let ask = || podman.run(&["exec", "one", "nc", "-w", "2", address, "80"]);
            assert_eq!(eventually(address, ask)?, "two");
        }
        Ok(())
    });
}

#[test]
fn restarted_and_reloaded_container_keeps_its_port() {
    with_podman(|node, podman| {
        podman.serve("web", &["-p", "8080:80"])?;
        // Podman itself listens on the published port while the container runs, to keep others off it.
        podman.run(&["network", "reload", "web"])?;
        assert_eq!(
            eventually("the port answers after a reload", || node.ask(&format!("{NODE_ADDRESS}:8080")))?,
            "web"
        );
        podman.run(&["restart", "--time=0", "web"])?;
        assert_eq!(
            eventually("the port answers after a restart", || node.ask(&format!("{NODE_ADDRESS}:8080")))?,
            "web"
        );
        podman.run(&["network", "create", "lab"])?;
        podman.run(&["network", "connect", "lab", "web"])?;
        podman.run(&["network", "disconnect", "lab", "web"])?;
        Ok(())
    });
}

#[test]
fn network_from_a_conflist_of_version_1_is_used() {
    with_podman(|node, podman| {
        node.write("/etc/cni/net.d/20-own.conflist", conflist("own", "own0", "10.80.0.0/24"))?;
        podman.serve("web", &["--network=own", "-p", "8080:80"])?;
        assert_eq!(podman.address("web", "own")?, "10.80.0.2");
        assert_eq!(eventually("the port answers", || node.ask(&format!("{NODE_ADDRESS}:8080")))?, "web");
        Ok(())
    });
}
