//! Promises of capabilities and arguments: who sets an address or a MAC, and who wins.

use anyhow::{Context, Result, ensure};
use netns_fixtures::Attachment;
use serde_json::{Value, json};

use super::rig::{Plugin, Rig, SUBNET, VERSION, address, bridge, with};
use super::{Kept, Promise};

const MAC: &[Plugin] = &[Plugin::Bridge, Plugin::Overlay, Plugin::Macvlan, Plugin::Tap, Plugin::Tuning];

pub(super) const PROMISES: &[Promise] = &[
    Promise { name: "capability mac sets the MAC", plugins: MAC, test: mac_capability },
    Promise { name: "CNI_ARGS MAC sets the MAC", plugins: MAC, test: mac_in_cni_args },
    Promise { name: "MAC: documented precedence of the sources", plugins: MAC, test: mac_precedence },
    Promise {
        name: "CNI_ARGS MAC does not disturb the IPAM",
        plugins: &[Plugin::Bridge, Plugin::Macvlan, Plugin::Tap],
        test: mac_and_ipam,
    },
    Promise {
        name: "unknown CNI_ARGS: refused unless IgnoreUnknown",
        plugins: Plugin::ALL,
        test: unknown_args,
    },
    Promise { name: "capability ips asks for an address", plugins: ADDRESSING, test: ips_capability },
    Promise { name: "args.cni.ips asks for an address", plugins: ADDRESSING, test: ips_in_config },
    Promise { name: "CNI_ARGS IP asks for an address", plugins: ADDRESSING, test: ip_in_cni_args },
    Promise {
        name: "capability ipRanges replaces the ranges",
        plugins: &[Plugin::HostLocal],
        test: ip_ranges,
    },
    Promise {
        name: "address, gateway, routes and dns as configured",
        plugins: &[Plugin::Static],
        test: as_configured,
    },
    Promise {
        name: "an address held by another is refused",
        plugins: &[Plugin::HostLocal],
        test: held_address,
    },
    Promise {
        name: "leases are files as the reference has them",
        plugins: &[Plugin::HostLocal],
        test: lease_files,
    },
    Promise { name: "sysctl and mtu are set in the container", plugins: &[Plugin::Tuning], test: tuned },
    Promise { name: "DEL restores MAC and mtu", plugins: &[Plugin::Tuning], test: restored },
    Promise { name: "sysctls outside net. are refused", plugins: &[Plugin::Tuning], test: foreign_sysctl },
];

const ADDRESSING: &[Plugin] = &[Plugin::HostLocal, Plugin::Static];
const WISH: &str = "02:00:00:00:00:01";
const SECOND: &str = "02:00:00:00:00:02";
const THIRD: &str = "02:00:00:00:00:03";

fn link(container: &Attachment) -> Result<Value> {
    Ok(container.container().ip_json("link show eth0")?[0].clone())
}

fn mac_of(container: &Attachment) -> Result<String> {
    Ok(link(container)?["address"].as_str().unwrap_or_default().to_owned())
}

/// ADDs and demands that the container's MAC and the result's are `wish`.
fn ensure_mac(rig: &Rig<'_>, config: Value, container: &Attachment, wish: &str) -> Result<Kept> {
    let result = rig.chain_of(VERSION, config)?.add(&rig.host, container)?;
    let seen = mac_of(container)?;
    ensure!(seen == wish, "want {wish}, eth0 has {seen}");
    let interfaces = result["interfaces"].as_array().context("no interfaces")?;
    let said =
        interfaces.iter().any(|interface| interface["sandbox"].is_string() && interface["mac"] == wish);
    ensure!(said, "the result does not say {wish}: {result}");
    Ok(Kept::Yes)
}

fn mac_capability(rig: &Rig<'_>) -> Result<Kept> {
    ensure_mac(rig, rig.config(), &rig.container()?.with(json!({"mac": WISH})), WISH)
}

fn mac_in_cni_args(rig: &Rig<'_>) -> Result<Kept> {
    ensure_mac(rig, rig.config(), &rig.container()?.args(&format!("IgnoreUnknown=1;MAC={WISH}")), WISH)
}

/// bridge: runtimeConfig > args.cni > CNI_ARGS. tuning: args.cni > runtimeConfig > CNI_ARGS.
fn mac_precedence(rig: &Rig<'_>) -> Result<Kept> {
    let (runtime, config) = if rig.plugin == Plugin::Tuning { (SECOND, WISH) } else { (WISH, SECOND) };
    let container = rig.container()?.args(&format!("IgnoreUnknown=1;MAC={THIRD}"));
    let all = with(rig.config(), "args", json!({"cni": {"mac": config}}));
    ensure_mac(rig, all.clone(), &container.clone().with(json!({"mac": runtime})), WISH)?;
    let other = rig.container()?.args(&format!("IgnoreUnknown=1;MAC={THIRD}"));
    let (config, container) = match rig.plugin {
        Plugin::Tuning => (rig.config(), other.with(json!({"mac": SECOND}))),
        _ => (all, other),
    };
    ensure_mac(rig, config, &container, SECOND)
}

fn mac_and_ipam(rig: &Rig<'_>) -> Result<Kept> {
    ensure_mac(rig, rig.config(), &rig.container()?.args(&format!("MAC={WISH}")), WISH)
}

/// Plugins that take no CNI_ARGS may well ignore them all, so only acceptance is demanded of all.
fn unknown_args(rig: &Rig<'_>) -> Result<Kept> {
    let container = rig.container()?.args("IgnoreUnknown=true;K8S_POD_NAME=web");
    let result = rig.chain()?.add(&rig.host, &container).context("ADD with IgnoreUnknown")?;
    ensure!(result["cniVersion"] == VERSION, "ADD returned no result: {result}");
    if rig.plugin.is_chained() || rig.plugin == Plugin::Loopback {
        return Ok(Kept::Yes);
    }
    let strange = rig.container()?.args("STRANGE=web");
    ensure!(rig.chain()?.add(&rig.host, &strange).is_err(), "an unknown key was accepted");
    Ok(Kept::Yes)
}

fn ensure_address(rig: &Rig<'_>, config: Value, container: &Attachment, wish: &str) -> Result<Kept> {
    let result = rig.chain_of(VERSION, config)?.add(&rig.host, container)?;
    let seen: Vec<_> =
        result["ips"].as_array().into_iter().flatten().map(|ip| ip["address"].clone()).collect();
    ensure!(seen.contains(&json!(wish)), "want {wish}, got {seen:?}");
    Ok(Kept::Yes)
}

fn ips_capability(rig: &Rig<'_>) -> Result<Kept> {
    let container = rig.container()?.with(json!({"ips": ["10.88.0.42/24"]}));
    ensure_address(rig, rig.config(), &container, "10.88.0.42/24")
}

fn ips_in_config(rig: &Rig<'_>) -> Result<Kept> {
    let config = with(rig.config(), "args", json!({"cni": {"ips": ["10.88.0.43/24"]}}));
    ensure_address(rig, config, &rig.container()?, "10.88.0.43/24")
}

fn ip_in_cni_args(rig: &Rig<'_>) -> Result<Kept> {
    let wish = if rig.plugin == Plugin::HostLocal { "10.88.0.44" } else { "10.88.0.44/24" };
    ensure_address(rig, rig.config(), &rig.container()?.args(&format!("IP={wish}")), "10.88.0.44/24")
}

fn ip_ranges(rig: &Rig<'_>) -> Result<Kept> {
    let ranges = json!({"ipRanges": [[{"subnet": "10.99.0.0/24", "rangeStart": "10.99.0.5"}]]});
    let config = with(rig.config(), "ipam", json!({"type": "host-local"}));
    ensure_address(rig, config, &rig.container()?.with(ranges), "10.99.0.5/24")
}

fn as_configured(rig: &Rig<'_>) -> Result<Kept> {
    let result = rig.chain()?.add(&rig.host, &rig.container()?)?;
    let ip = &result["ips"][0];
    ensure!(ip["address"] == "10.88.0.7/24" && ip["gateway"] == "10.88.0.1", "ips: {result}");
    ensure!(result["routes"][0]["dst"] == "0.0.0.0/0", "routes: {result}");
    ensure!(result["dns"]["nameservers"][0] == "192.0.2.53", "dns: {result}");
    Ok(Kept::Yes)
}

fn held_address(rig: &Rig<'_>) -> Result<Kept> {
    let chain = rig.chain()?;
    chain.add(&rig.host, &rig.container()?.args("IP=10.88.0.44"))?;
    let second = chain.add(&rig.host, &rig.container()?.args("IP=10.88.0.44"));
    ensure!(second.is_err(), "10.88.0.44 was given twice");
    ensure!(rig.leases(&chain) == ["10.88.0.44"], "leases: {:?}", rig.leases(&chain));
    Ok(Kept::Yes)
}

/// A file per address with `ID CR LF IFNAME`, and the last address in `last_reserved_ip.RANGE`.
fn lease_files(rig: &Rig<'_>) -> Result<Kept> {
    let (chain, container) = (rig.chain()?, rig.container()?);
    let held = address(&chain.add(&rig.host, &container)?)?;
    let read =
        |name: &str| std::fs::read_to_string(chain.leases(&rig.host).join(name)).context(name.to_owned());
    ensure!(held == "10.88.0.2", "the first address is {held}, not the one after the gateway");
    let (lease, wanted) = (read(&held)?, format!("{}\r\neth0", container.id()));
    ensure!(lease == wanted, "the lease is {lease:?}");
    ensure!(read("last_reserved_ip.0")? == held, "last_reserved_ip.0 is not {held}");
    chain.del(&rig.host, &container)?;
    let next = address(&chain.add(&rig.host, &rig.container()?)?)?;
    ensure!(next == "10.88.0.3", "addresses go round, but {next} follows {held}");
    Ok(Kept::Yes)
}

fn tuned(rig: &Rig<'_>) -> Result<Kept> {
    let container = rig.container()?;
    rig.chain()?.add(&rig.host, &container)?;
    ensure!(link(&container)?["mtu"] == 1400, "mtu: {}", link(&container)?);
    let backlog = container.container().sysctl("net.core.somaxconn")?;
    ensure!(backlog == "500", "net.core.somaxconn is {backlog}");
    Ok(Kept::Yes)
}

/// tuning alone gets the DEL: the bridge's would take the link away.
fn restored(rig: &Rig<'_>) -> Result<Kept> {
    let container = rig.container()?.with(json!({"mac": WISH}));
    let before = rig.list_of(VERSION, vec![bridge("cni0", SUBNET)])?;
    let previous = before.add(&rig.host, &container.clone().with(json!({})))?;
    let original = link(&container)?;
    let result = rig.call_after("ADD", &container, VERSION, &previous).run(&rig.host)?;
    ensure!(mac_of(&container)? == WISH, "ADD did not set the MAC");
    rig.call_after("DEL", &container, VERSION, &result).run(&rig.host)?;
    let after = link(&container)?;
    for key in ["address", "mtu"] {
        ensure!(after[key] == original[key], "{key} was {} and is {}", original[key], after[key]);
    }
    Ok(Kept::Yes)
}

fn foreign_sysctl(rig: &Rig<'_>) -> Result<Kept> {
    let config = with(rig.config(), "sysctl", json!({"kernel.domainname": "example.org"}));
    let added = rig.chain_of(VERSION, config)?.add(&rig.host, &rig.container()?);
    ensure!(added.is_err(), "kernel.domainname was accepted");
    Ok(Kept::Yes)
}
