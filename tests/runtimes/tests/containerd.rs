//! Promises kept for containerd's CRI, as a kubelet drives it.

use anyhow::{Context, Result, bail, ensure};
use netns_fixtures::Running;
use zeugma_runtime_tests::*;

const SUBNET: &str = "10.77.0.0/24";

fn port(host_port: i32, protocol: Protocol) -> PortMapping {
    PortMapping { protocol: protocol as i32, container_port: 80, host_port, host_ip: String::new() }
}

/// A containerd and a client of it; `test` gets both and the node.
fn with_cri(test: impl FnOnce(&Node, &Cri) -> Result<()> + Send) {
    with_containerd(|node, containerd| test(node, &containerd.cri()?));
}

fn with_containerd(test: impl FnOnce(&Node, Containerd<'_>) -> Result<()> + Send) {
    if skip_without(&["containerd", "ctr", "containerd-shim-runc-v2", "perl"]) {
        return;
    }
    Node::run(|node| {
        let conflist = conflist("pods", "pods0", SUBNET);
        test(node, Containerd::start(node, &conflist)?)
    });
}

/// libcni's cached result of a pod.
fn cached(node: &Node, pod: &Pod) -> Result<serde_json::Value> {
    let cached = node.command(&["cat", &format!("/var/lib/cni/results/pods-{}-eth0", pod.id)])?;
    Ok(serde_json::from_str::<serde_json::Value>(&cached)?["result"].take())
}

/// Says `name` to every datagram on port 80 of the pod. The image's busybox has no server for UDP, so it
/// is a program of the node in the pod's network namespace; it ends with the node.
fn serve_udp(node: &Node, pod: &Pod, name: &str) -> Result<Running> {
    const SERVER: &str = r#"my $socket = IO::Socket::INET->new(Proto => "udp", LocalPort => 80) or die $@;
        $socket->send($ARGV[0]) while defined $socket->recv(my $question, 512);"#;
    let result = cached(node, pod)?;
    let interfaces = result["interfaces"].as_array().into_iter().flatten();
    let netns = interfaces
        .filter_map(|interface| interface["sandbox"].as_str())
        .find(|netns| !netns.is_empty())
        .context("no interface of the result is in a sandbox")?;
    let enter = format!("--net={netns}");
    node.spawn(&["nsenter", &enter, "perl", "-MIO::Socket::INET", "-e", SERVER, name])
}

#[test]
fn host_port_answers_outside_until_the_pod_is_removed() {
    with_cri(|node, cri| {
        let pod = cri.run_pod("web", vec![port(8080, Protocol::Tcp)])?;
        cri.start(&pod, IMAGE, serve("web"))?;
        let answer = eventually("the port answers", || node.ask(&format!("{NODE_ADDRESS}:8080")))?;
        assert_eq!(answer, "web");

        cri.remove(&pod)?;
        ensure!(node.ask(&format!("{NODE_ADDRESS}:8080")).is_err(), "the port answers without its pod");
        Ok(())
    });
}

#[test]
fn host_port_answers_on_the_node_itself() {
    with_cri(|node, cri| {
        let pod = cri.run_pod("web", vec![port(8080, Protocol::Tcp)])?;
        cri.start(&pod, IMAGE, serve("web"))?;
        for address in [NODE_ADDRESS, "127.0.0.1"] {
            let ask = || Ok(node.network().ask_tcp(&format!("{address}:8080"))?);
            assert_eq!(eventually("the port answers", ask)?.trim(), "web");
        }
        Ok(())
    });
}

#[test]
fn udp_host_port_answers_a_flow_that_began_before_the_pod() {
    with_cri(|node, cri| {
        let ask = || Ok(node.outside().ask_udp_from(5353, &format!("{NODE_ADDRESS}:8080"))?);
        ensure!(ask().is_err(), "the port answers before there is a pod");
        // The second pod has another address: the first one's flow must not outlive it.
        for name in ["first", "second"] {
            let pod = cri.run_pod(name, vec![port(8080, Protocol::Udp)])?;
            let _server = serve_udp(node, &pod, name)?;
            assert_eq!(eventually("the port answers", ask)?, name);
            cri.remove(&pod)?;
        }
        ensure!(ask().is_err(), "the port answers without its pod");
        Ok(())
    });
}

#[test]
fn pod_outlives_a_restart_of_containerd() {
    with_containerd(|node, mut containerd| {
        let cri = containerd.cri()?;
        let pod = cri.run_pod("web", vec![port(8080, Protocol::Tcp)])?;
        cri.start(&pod, IMAGE, serve("web"))?;
        let ask = || node.ask(&format!("{NODE_ADDRESS}:8080"));
        assert_eq!(eventually("the port answers", ask)?, "web");
        let address = cri.address(&pod)?;

        containerd.restart()?;
        let cri = containerd.cri()?;
        assert_eq!(ask()?, "web");
        assert_eq!(cri.address(&pod)?, address);
        let other = cri.run_pod("other", Vec::new())?;
        assert_ne!(cri.address(&other)?, address);

        cri.remove(&pod)?;
        ensure!(ask().is_err(), "the port answers without its pod");
        eventually("the container is forgotten", || node.ensure_forgotten(&[&pod.id, &address, "8080"]))
    });
}

#[test]
fn network_of_the_documentation_is_picked_up_and_publishes_a_port() {
    const PAGE: &str = include_str!("../../../docs/runtimes.md");
    with_cri(|node, cri| {
        let (_, rest) = PAGE.split_once("```json\n").context("the page has a network")?;
        let (documented, _) = rest.split_once("```").context("the network ends")?;
        node.write("/etc/cni/net.d/00-before-all-others.conflist", documented)?;
        let pod = eventually("a pod is on the new network", || {
            let pod = cri.run_pod("web", vec![port(8080, Protocol::Tcp)])?;
            let address = cri.address(&pod)?;
            if !address.starts_with("10.88.") {
                cri.remove(&pod)?;
                bail!("its address is {address}");
            }
            Ok(pod)
        })?;
        cri.start(&pod, IMAGE, serve("web"))?;
        let answer = eventually("the port answers", || node.ask(&format!("{NODE_ADDRESS}:8080")))?;
        assert_eq!(answer, "web");
        Ok(())
    });
}

#[test]
fn status_has_the_address_of_the_cni_result() {
    with_cri(|node, cri| {
        let pod = cri.run_pod("web", Vec::new())?;
        let address = cri.address(&pod)?;
        assert_eq!(cached(node, &pod)?["ips"][0]["address"], format!("{address}/24"));
        let lease = node.command(&["cat", &format!("/var/lib/cni/networks/pods/{address}")])?;
        ensure!(lease.contains(&pod.id), "the lease of {address} is held by {lease}");
        Ok(())
    });
}

#[test]
fn pods_reach_each_other_and_the_outside_by_nat() {
    with_cri(|node, cri| {
        let server = cri.run_pod("server", Vec::new())?;
        cri.start(&server, IMAGE, serve("server"))?;
        let address = cri.address(&server)?;

        // The client publishes what it saw; the outside knows no way back to a pod's address.
        let client = cri.run_pod("client", vec![port(8080, Protocol::Tcp)])?;
        let script = format!(
            "until seen=$(nc -w 1 {address} 80); do :; done
             ping -c 1 -W 5 {OUTSIDE_ADDRESS} >/dev/null && exec nc -ll -p 80 -e echo $seen and outside"
        );
        cri.start(&client, IMAGE, ["sh", "-c", &script].map(str::to_owned).to_vec())?;
        let answer = eventually("the client got an answer", || node.ask(&format!("{NODE_ADDRESS}:8080")))?;
        assert_eq!(answer, "server and outside");
        Ok(())
    });
}

#[test]
fn removed_pod_leaves_no_residue() {
    with_cri(|node, cri| {
        // The first pod brings what networks share: bridge, tables, lock files.
        let first = cri.run_pod("first", vec![port(8080, Protocol::Tcp)])?;
        let address = cri.address(&first)?;
        cri.remove(&first)?;
        eventually("the container is forgotten", || node.ensure_forgotten(&[&first.id, &address, "8080"]))?;

        let before = node.residue()?;
        let ports = vec![port(8081, Protocol::Tcp), port(8081, Protocol::Udp)];
        let second = cri.run_pod("second", ports)?;
        cri.start(&second, IMAGE, serve("second"))?;
        eventually("the port answers", || node.ask(&format!("{NODE_ADDRESS}:8081")))?;
        cri.remove(&second)?;
        eventually("nothing is left", || node.ensure_restored(&before))
    });
}

#[test]
fn taken_host_port_is_refused_and_leaves_the_first_pod_alone() {
    with_cri(|node, cri| {
        if !Plugins::find()?.are_ours() {
            skipped("the reference plugins let a second pod take a host port");
            return Ok(());
        }
        let first = cri.run_pod("first", vec![port(8080, Protocol::Tcp)])?;
        cri.start(&first, IMAGE, serve("first"))?;
        let before = node.residue()?;
        let refused = cri.run_pod("second", vec![port(8080, Protocol::Tcp)]).expect_err("the port is taken");
        for named in ["8080", &first.id] {
            ensure!(format!("{refused:#}").contains(named), "the message does not name {named}: {refused:#}");
        }
        eventually("nothing is left", || node.ensure_restored(&before))?;
        assert_eq!(eventually("the port answers", || node.ask(&format!("{NODE_ADDRESS}:8080")))?, "first");
        Ok(())
    });
}
