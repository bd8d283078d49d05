//! Containers of real runtimes find one another by name, through our agent.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use zeugma_runtime_tests::*;

/// Podman on a node where `zeugma install --replace` was done and the agent runs.
fn with_podman(test: impl FnOnce(&Node, &Podman<'_>) -> Result<()> + Send) {
    if skip_without(&["podman", "conmon"]) || not_ours() {
        return;
    }
    Node::run(|node| {
        let podman = Podman::set_up(node)?;
        Plugins::find()?.install_by_command(node)?;
        let _agent = Agent::start(node)?;
        test(node, &podman)
    });
}

/// Whether the executables are somebody else's, who have no agent.
fn not_ours() -> bool {
    let ours = Plugins::find().is_ok_and(|plugins| plugins.are_ours());
    if !ours {
        skipped("names are answered by zeugma's agent");
    }
    !ours
}

#[test]
fn podman_containers_find_one_another_by_name_and_alias() {
    with_podman(|node, podman| {
        podman.run(&["network", "create", "lab"])?;
        let network = node.command(&["cat", "/etc/cni/net.d/lab.conflist"])?;
        ensure!(network.contains("\"dnsname\""), "Podman does not know that there is dnsname: {network}");
        podman.serve("one", &["--network=lab"])?;
        let id = podman.serve("two", &["--network=lab", "--network-alias=shop"])?;
        let address = podman.address("two", "lab")?;
        let gateway = podman.run(&["exec", "one", "cat", "/etc/resolv.conf"])?;
        ensure!(gateway.contains("search dns.podman") && gateway.contains("nameserver 10."), "{gateway}");
        for name in ["two", "shop", &id[..12], "two.dns.podman", "shop.dns.podman"] {
            let found = podman.run(&["exec", "one", "nslookup", name])?;
            ensure!(found.contains(&format!("Address: {address}")), "{name}: {found}");
        }
        podman.run(&["rm", "--force", "--time=0", "two"])?;
        ensure!(
            podman.run(&["exec", "one", "nslookup", "two.dns.podman"]).is_err(),
            "it outlives its container"
        );
        Ok(())
    });
}

#[test]
fn a_network_of_zeugma_is_one_of_podman_s_with_names_and_aliases() {
    with_podman(|node, podman| {
        let zeugma = Plugins::find()?.zeugma().display().to_string();
        node.command(&[&zeugma, "network", "create", "front", "--subnet", "10.78.0.0/24"])?;
        let seen: Value = serde_json::from_str(&podman.run(&["network", "inspect", "front"])?)?;
        ensure!(seen[0]["driver"] == "bridge" && seen[0]["dns_enabled"] == true, "{seen}");
        podman.serve("one", &["--network=front"])?;
        podman.serve("two", &["--network=front", "--network-alias=shop", "-p", "8080:80"])?;
        let found = podman.run(&["exec", "one", "nslookup", "shop"])?;
        ensure!(found.contains(&format!("Address: {}", podman.address("two", "front")?)), "{found}");
        assert_eq!(eventually("the port answers", || node.ask(&format!("{NODE_ADDRESS}:8080")))?, "two");
        let refused = node.command(&[&zeugma, "network", "rm", "front"]);
        ensure!(
            refused.is_err_and(|error| format!("{error:?}").contains("has containers")),
            "it was removed"
        );
        podman.run(&["rm", "--force", "--time=0", "one", "two"])?;
        node.command(&[&zeugma, "network", "rm", "front"])?;
        ensure!(!podman.run(&["network", "ls", "--quiet"])?.contains("front"), "front is still listed");
        Ok(())
    });
}

/// The network of the other tests, with names.
fn named(name: &str, bridge: &str, subnet: &str) -> Result<String> {
    let mut list: Value = serde_json::from_str(&conflist(name, bridge, subnet))?;
    let resolver = json!({"type": "resolver", "capabilities": {"aliases": true, "dns": true}});
    list["plugins"].as_array_mut().into_iter().for_each(|plugins| plugins.push(resolver.clone()));
    Ok(list.to_string())
}

/// containerd takes the pod's name servers from the kubelet, never from a result.
#[test]
fn pods_of_containerd_find_one_another_by_name() {
    if skip_without(&["containerd", "ctr", "containerd-shim-runc-v2"]) || not_ours() {
        return;
    }
    Node::run(|node| {
        let containerd = Containerd::start(node, &named("pods", "pods0", "10.77.0.0/24")?)?;
        Plugins::find()?.install_by_command(node)?;
        let _agent = Agent::start(node)?;
        let cri = containerd.cri()?;
        let asking = cri.run_pod_that_asks("web", "10.77.0.1", "zeugma.internal")?;
        let ask = ["nc", "-ll", "-p", "80", "-e", "nslookup", "db"].map(str::to_owned);
        cri.start(&asking, IMAGE, ask.to_vec())?;
        let (asking, named) = (cri.address(&asking)?, cri.run_pod("db", Vec::new())?);
        let address = format!("Address: {}", cri.address(&named)?);
        let said = eventually("the pod answers", || Ok(node.network().ask_tcp(&format!("{asking}:80"))?))?;
        ensure!(said.contains("Name:\tdb.zeugma.internal") && said.contains(&address), "{said}");
        Ok(())
    });
}
