//! `zeugma-cni --dry-run` prints what an ADD would do, without rights and without doing it.

use anyhow::{Result, ensure};
use netns_fixtures::run;
use serde_json::{Value, json};
use zeugma_tests::bin_dir;
use zeugma_tests::stage::{Stage, bridge, firewall, portmap, with};

/// The result of a bridge ADD, as the next plugin gets it.
fn previous() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "br0"}, {"name": "veth1"}, {"name": "eth0", "sandbox": "/run/netns/none"},
        ],
        "ips": [{"address": "10.88.0.2/24", "gateway": "10.88.0.1", "interface": 2}],
    })
}

/// The plan of `config`, asked for by nobody who has any rights; the host is as before.
fn ensure_planned(config: Value, expected: &[&str]) {
    run(|world| {
        let stage = Stage::new(world)?;
        let before = stage.residue()?;
        let plan = planned(&stage, &config)?;
        for word in expected {
            ensure!(plan.contains(word), "{word:?} is not in the plan:\n{plan}");
        }
        stage.ensure_unchanged(&before)?;
        ensure!(!stage.host.run_dir().join("attachments").exists(), "a dry run wrote into the journal");
        Ok(())
    });
}

fn planned(stage: &Stage<'_>, config: &Value) -> Result<String> {
    let plugin = config["type"].as_str().unwrap_or_default();
    let config = with(config.clone(), json!({"cniVersion": "1.1.0", "name": "net"}));
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--"];
    let command = stage.host.command("setpriv").args(nobody).arg(executable(stage)?);
    let command = command
        .args(["--dry-run", plugin])
        .env("CNI_COMMAND", "ADD")
        .env("CNI_PATH", bin_dir())
        .env("CNI_CONTAINERID", "web")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_NETNS", "/run/netns/none");
    Ok(command.stdin(config.to_string()).run()?.stdout)
}

/// A copy where everybody may read it: the target directory may be below a private one. Made by another process: what
/// this one has open for writing, a child of another test's thread holds for a moment, and the copy would be busy.
fn executable(stage: &Stage<'_>) -> Result<std::path::PathBuf> {
    let copy = stage.world.dir().join("zeugma-cni");
    stage.host.command("cp").arg(bin_dir().join("zeugma-cni")).arg(&copy).run()?;
    Ok(copy)
}

#[test]
fn bridge_says_its_links_addresses_and_elements() {
    let ipam = json!({"type": "static", "addresses": [{"address": "10.88.0.7/24"}]});
    let waits = ["container: wait until eth0 carries packets", "host: wait until br0 carries packets"];
    let words = ["ip link add", "br0", "10.88.0.1/24", "10.88.0.7/24", "masquerade_ip", waits[0], waits[1]];
    ensure_planned(with(bridge(0), json!({"ipam": ipam})), &words);
}

#[test]
fn bridge_says_what_host_local_would_do() {
    ensure_planned(bridge(0), &["br0"]);
}

#[test]
fn portmap_says_its_elements() {
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let config = with(portmap(), json!({"prevResult": previous(), "runtimeConfig": {"portMappings": ports}}));
    ensure_planned(config, &["published_any_ip", "8080", "10.88.0.2", "net/web/eth0"]);
}

#[test]
fn firewall_says_the_policy_s_elements() {
    let config = with(firewall("isolated"), json!({"prevResult": previous()}));
    ensure_planned(config, &["isolated", "br0", "veth1"]);
}

#[test]
fn tuning_says_the_settings() {
    let config = json!({"type": "tuning", "mtu": 1400, "sysctl": {"net.core.somaxconn": "500"}});
    ensure_planned(with(config, json!({"prevResult": previous()})), &["1400", "somaxconn", "500"]);
}

#[test]
fn bandwidth_says_its_queues() {
    let rates = json!({"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 16_000_000, "egressBurst": 800_000});
    let config =
        json!({"type": "bandwidth", "prevResult": previous(), "runtimeConfig": {"bandwidth": rates}});
    let queue = "tc qdisc add dev veth1 root handle 1: tbf rate 1000000bps burst 100000b limit 125000b";
    ensure_planned(config, &[queue, "type ifb", "net/web/eth0", "tbf rate 2000000bps", "redirect dev bwp"]);
}

#[test]
fn sbr_says_rules_and_routes() {
    let words = [
        "ip rule add from 10.88.0.2/32 lookup 100",
        "0.0.0.0/0 via 10.88.0.1 dev eth0 table 100",
        "route del",
    ];
    ensure_planned(with(json!({"type": "sbr"}), json!({"prevResult": previous()})), &words);
}

#[test]
fn vrf_says_what_moves() {
    let words = ["ip link add blue type vrf table 1", "ip link set eth0 master blue"];
    ensure_planned(json!({"type": "vrf", "vrfname": "blue", "prevResult": previous()}), &words);
}

#[test]
fn resolver_says_whom_the_container_asks() {
    let config = with(json!({"type": "resolver"}), json!({"prevResult": previous()}));
    ensure_planned(config.clone(), &["asks 10.88.0.1", "names of net/web/eth0 below zeugma.internal"]);
    let table =
        ["lo up", "table inet zeugma_resolver", "ip daddr 127.0.0.11", "th dport 53 dnat ip to 127.0.0.11:"];
    ensure_planned(with(config, json!({"mode": "container"})), &[&table[..], &["asks 127.0.0.11"]].concat());
}

#[test]
fn loopback_says_that_lo_is_set_up() {
    ensure_planned(json!({"type": "loopback"}), &["lo", "up"]);
}

#[test]
fn tap_says_the_device() {
    let config = json!({"type": "tap", "owner": 107, "mtu": 1400, "bridge": "br0"});
    ensure_planned(config, &["container: ip tuntap add eth0 mode tap user 107", "mtu 1400", "master br0"]);
}

#[test]
fn host_device_says_the_way_into_the_container() {
    run(|world| {
        let stage = Stage::new(world)?;
        // The device of the default route is refused.
        stage.host.ip("route del default")?;
        let plan = planned(&stage, &json!({"type": "host-device", "device": "eth0"}))?;
        for word in
            ["host: ip addr del 192.0.2.1/24 dev eth0", "ip link set eth0 netns container", "name eth0"]
        {
            ensure!(plan.contains(word), "{word:?} is not in the plan:\n{plan}");
        }
        Ok(())
    });
}
