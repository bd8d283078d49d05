//! Promises seen from outside, with real packets: gateway, masquerade, published ports, ingress policy.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Chain, Host, Server, eventually};
use serde_json::{Value, json};

use super::rig::{Plugin, Rig, SUBNET, VERSION, address, bridge, with};
use super::{Kept, Promise};

/// Those behind a gateway that is the host's.
const ROUTED: &[Plugin] = &[Plugin::Bridge, Plugin::Ptp];

pub(super) const PROMISES: &[Promise] = &[
    Promise { name: "containers reach the gateway and each other", plugins: ROUTED, test: neighbours },
    Promise { name: "dual stack", plugins: ROUTED, test: dual_stack },
    Promise { name: "IPv6 answers when ADD returns", plugins: ROUTED, test: ipv6_at_once },
    Promise { name: "ipMasq: outside sees the host's address", plugins: ROUTED, test: masquerade },
    Promise { name: "no ipMasq: outside sees the container", plugins: ROUTED, test: no_masquerade },
    Promise { name: "answers leave by the interface asked", plugins: &[Plugin::Sbr], test: way_back },
    Promise {
        name: "published tcp port: reachable until DEL",
        plugins: &[Plugin::Portmap],
        test: published_tcp,
    },
    Promise {
        name: "published udp port: reachable until DEL",
        plugins: &[Plugin::Portmap],
        test: published_udp,
    },
    Promise {
        name: "published port: from the host by 127.0.0.1",
        plugins: &[Plugin::Portmap],
        test: by_loopback,
    },
    Promise { name: "published port: container reaches itself", plugins: &[Plugin::Portmap], test: hairpin },
    Promise { name: "the same with hairpinMode unset", plugins: &[Plugin::Portmap], test: hairpin_unset },
    Promise { name: "published port: hostIP restricts it", plugins: &[Plugin::Portmap], test: host_ip },
    Promise { name: "ingressPolicy same-bridge", plugins: &[Plugin::Firewall], test: same_bridge },
    Promise { name: "ingressPolicy isolated", plugins: &[Plugin::Firewall], test: isolated },
];

fn neighbours(rig: &Rig<'_>) -> Result<Kept> {
    let (chain, one, two) = (rig.chain()?, rig.container()?, rig.container()?);
    chain.add(&rig.host, &one)?;
    let there = address(&chain.add(&rig.host, &two)?)?;
    one.container().ping("10.88.0.1").context("the gateway")?;
    one.container().ping(&there).context("the neighbour")?;
    one.container().ping("192.0.2.1").context("the host by the default route")?;
    Ok(Kept::Yes)
}

fn attached_dual_stack(rig: &Rig<'_>) -> Result<Attachment> {
    let ranges = json!({
        "type": "host-local", "ranges": [[{"subnet": "10.88.0.0/24"}], [{"subnet": "2001:db8:88::/64"}]],
    });
    let container = rig.container()?;
    let chain = rig.chain_of(VERSION, with(rig.config(), "ipam", ranges))?;
    let result = chain.add(&rig.host, &container)?;
    ensure!(result["ips"].as_array().is_some_and(|ips| ips.len() == 2), "want two addresses: {result}");
    Ok(container)
}

fn dual_stack(rig: &Rig<'_>) -> Result<Kept> {
    let container = attached_dual_stack(rig)?;
    container.container().ping("10.88.0.1").context("the IPv4 gateway")?;
    let answers = || container.container().ping("2001:db8:88::1").is_ok();
    ensure!(eventually(Duration::from_secs(5), answers), "the IPv6 gateway answers no ping within 5 s");
    Ok(Kept::Yes)
}

fn ipv6_at_once(rig: &Rig<'_>) -> Result<Kept> {
    attached_dual_stack(rig)?.container().ping("2001:db8:88::1")?;
    Ok(Kept::Yes)
}

fn masquerade(rig: &Rig<'_>) -> Result<Kept> {
    let _server = rig.client.tcp_echo("192.0.2.2:80", "outside")?;
    let (container, config) = (rig.container()?, with(rig.config(), "ipMasq", json!(true)));
    rig.chain_of(VERSION, config)?.add(&rig.host, &container)?;
    let answer = container.container().ask_tcp("192.0.2.2:80")?;
    ensure!(answer == "outside 192.0.2.1", "want to be seen as 192.0.2.1: {answer}");
    Ok(Kept::Yes)
}

fn no_masquerade(rig: &Rig<'_>) -> Result<Kept> {
    let _server = rig.client.tcp_echo("192.0.2.2:80", "outside")?;
    rig.client.ip("route add 10.88.0.0/24 via 192.0.2.1")?;
    let container = rig.container()?;
    let own = address(&rig.chain()?.add(&rig.host, &container)?)?;
    let answer = container.container().ask_tcp("192.0.2.2:80")?;
    ensure!(answer == format!("outside {own}"), "want to be seen as {own}: {answer}");
    Ok(Kept::Yes)
}

fn published_tcp(rig: &Rig<'_>) -> Result<Kept> {
    let (chain, container) = (rig.chain()?, rig.container()?);
    chain.add(&rig.host, &container)?;
    let _server = container.container().tcp_echo("0.0.0.0:80", "web")?;
    let answer = rig.client.ask_tcp("192.0.2.1:8080").context("after ADD")?;
    ensure!(answer == "web 192.0.2.2", "want the client's own address kept: {answer}");
    chain.del(&rig.host, &container)?;
    let refused = rig.client.ask_tcp("192.0.2.1:8080").is_err_and(|error| error.is_refused());
    ensure!(refused, "still there after DEL");
    Ok(Kept::Yes)
}

/// One source port throughout: the tracked flow must not outlive the port.
fn published_udp(rig: &Rig<'_>) -> Result<Kept> {
    let (chain, container) = (rig.chain()?, rig.container()?);
    ensure!(rig.client.ask_udp_from(4000, "192.0.2.1:8080").is_err(), "answered before ADD");
    chain.add(&rig.host, &container)?;
    let _server = container.container().udp_echo("0.0.0.0:80", "web")?;
    let answer = rig.client.ask_udp_from(4000, "192.0.2.1:8080").context("after ADD")?;
    ensure!(answer == "web 192.0.2.2", "want the client's own address kept: {answer}");
    chain.del(&rig.host, &container)?;
    let refused = rig.client.ask_udp_from(4001, "192.0.2.1:8080").is_err_and(|error| error.is_refused());
    ensure!(refused, "still there after DEL");
    Ok(Kept::Yes)
}

fn by_loopback(rig: &Rig<'_>) -> Result<Kept> {
    let (chain, container) = (rig.chain()?, rig.container()?);
    chain.add(&rig.host, &container)?;
    let _server = container.container().tcp_echo("0.0.0.0:80", "web")?;
    let answer = rig.host.ask_tcp("127.0.0.1:8080")?;
    ensure!(answer.starts_with("web "), "{answer}");
    Ok(Kept::Yes)
}

fn ensure_reaches_itself(rig: &Rig<'_>, bridge: Value) -> Result<Kept> {
    let container = rig.container()?;
    rig.list_of(VERSION, vec![bridge, rig.config()])?.add(&rig.host, &container)?;
    let _server = container.container().tcp_echo("0.0.0.0:80", "web")?;
    let answer = container.container().ask_tcp("192.0.2.1:8080")?;
    ensure!(answer.starts_with("web "), "{answer}");
    Ok(Kept::Yes)
}

fn hairpin(rig: &Rig<'_>) -> Result<Kept> {
    ensure_reaches_itself(rig, with(bridge("cni0", SUBNET), "hairpinMode", json!(true)))
}

fn hairpin_unset(rig: &Rig<'_>) -> Result<Kept> {
    ensure_reaches_itself(rig, bridge("cni0", SUBNET))
}

fn host_ip(rig: &Rig<'_>) -> Result<Kept> {
    rig.host.ip("addr add 192.0.2.9/24 dev eth0")?;
    let port = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.9"}]);
    let container = rig.container()?.with(json!({"portMappings": port}));
    rig.chain()?.add(&rig.host, &container)?;
    let _server = container.container().tcp_echo("0.0.0.0:80", "web")?;
    rig.client.ask_tcp("192.0.2.9:8080").context("on the hostIP")?;
    ensure!(rig.client.ask_tcp("192.0.2.1:8080").is_err(), "answered on another address too");
    Ok(Kept::Yes)
}

/// A container with a leg on each of two bridges, and a host that takes nothing from the first that is the second's.
fn way_back(rig: &Rig<'_>) -> Result<Kept> {
    let eth0 = rig.container()?;
    rig.list_of(VERSION, vec![bridge("cni0", SUBNET)])?.add(&rig.host, &eth0)?;
    let eth1 = eth0.container().attachment(eth0.id(), "eth1");
    let result =
        rig.list_of(VERSION, vec![bridge("cni1", "10.89.0.0/24"), rig.config()])?.add(&rig.host, &eth1)?;
    rig.client.ip("route add 10.89.0.0/24 via 192.0.2.1")?;
    for sysctl in ["all", "cni0"] {
        rig.host.set_sysctl(&format!("net.ipv4.conf.{sysctl}.rp_filter"), "1")?;
    }
    let _server = eth0.container().tcp_echo("0.0.0.0:80", "web")?;
    rig.client.ask_tcp(&format!("{}:80", address(&result)?))?;
    Ok(Kept::Yes)
}

/// Two on one bridge, one on another, all with this policy, each answering on port 80.
struct Policed {
    one: (Host, String),
    two: (Host, String),
    other: (Host, String),
    servers: Vec<Server>,
}

fn policed(rig: &Rig<'_>, policy: &str) -> Result<Policed> {
    let firewall = with(rig.config(), "ingressPolicy", json!(policy));
    let list = |bridge: Value| rig.list_of(VERSION, vec![bridge, firewall.clone()]);
    let (here, there) = (list(bridge("cni0", "10.88.0.0/24"))?, list(bridge("cni1", "10.89.0.0/24"))?);
    let mut servers = Vec::new();
    let mut attach = |chain: &Chain| -> Result<(Host, String)> {
        let container: Attachment = rig.container()?;
        let own = address(&chain.add(&rig.host, &container)?)?;
        servers.push(container.container().tcp_echo("0.0.0.0:80", "web")?);
        Ok((container.container().clone(), format!("{own}:80")))
    };
    Ok(Policed { one: attach(&here)?, two: attach(&here)?, other: attach(&there)?, servers })
}

fn same_bridge(rig: &Rig<'_>) -> Result<Kept> {
    let Policed { one, two, other, servers } = policed(rig, "same-bridge")?;
    one.0.ask_tcp(&two.1).context("on the same bridge")?;
    ensure!(one.0.ask_tcp(&other.1).is_err(), "reached a container on another bridge");
    ensure!(other.0.ask_tcp(&one.1).is_err(), "was reached from another bridge");
    drop(servers);
    Ok(Kept::Yes)
}

fn isolated(rig: &Rig<'_>) -> Result<Kept> {
    rig.host.set_sysctl("net.bridge.bridge-nf-call-iptables", "1")?;
    let Policed { one, two, other, servers } = policed(rig, "isolated")?;
    ensure!(one.0.ask_tcp(&two.1).is_err(), "reached a container on the same bridge");
    ensure!(one.0.ask_tcp(&other.1).is_err(), "reached a container on another bridge");
    drop(servers);
    Ok(Kept::Yes)
}
