//! CHECK notices damage: each plugin's own work is undone behind its back.

use std::fs;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Chain};
use serde_json::{Value, json};

use super::rig::{Plugin, Rig, VERSION, address};
use super::{Kept, Promise};

pub(super) const PROMISES: &[Promise] = &[
    Promise { name: "CHECK fails after damage", plugins: Plugin::ALL, test: noticed },
    Promise { name: "CHECK misses an address", plugins: &[Plugin::Static], test: missing_address },
];

fn noticed(rig: &Rig<'_>) -> Result<Kept> {
    if rig.plugin == Plugin::Static {
        return ensure_change_noticed(rig, "gateway", "10.88.0.254");
    }
    if rig.plugin == Plugin::Dhcp {
        return ensure_change_noticed(rig, "address", "10.88.0.8/24");
    }
    let mut config = rig.config();
    if rig.plugin == Plugin::Firewall {
        // With an open policy there may be nothing to check: nothing is closed.
        config["ingressPolicy"] = json!("same-bridge");
    }
    let (chain, container) = (rig.chain_of(VERSION, config)?, rig.container()?);
    chain.add(&rig.host, &container)?;
    chain.check(&rig.host, &container).context("CHECK before the damage")?;
    damage(rig, &chain, &container)?;
    ensure!(chain.check(&rig.host, &container).is_err(), "CHECK succeeds after the damage");
    Ok(Kept::Yes)
}

fn missing_address(rig: &Rig<'_>) -> Result<Kept> {
    ensure_change_noticed(rig, "address", "10.88.0.8/24")
}

fn damage(rig: &Rig<'_>, chain: &Chain, container: &Attachment) -> Result<()> {
    match rig.plugin {
        Plugin::Bridge
        | Plugin::Overlay
        | Plugin::Ptp
        | Plugin::Macvlan
        | Plugin::Ipvlan
        | Plugin::Vlan
        | Plugin::Dummy
        | Plugin::Tap
        | Plugin::HostDevice => container.container().ip("addr flush dev eth0").map(drop),
        Plugin::Loopback => container.container().ip("link set lo down").map(drop),
        Plugin::Portmap | Plugin::Firewall => rig.host.run(["nft", "flush", "ruleset"]).map(drop),
        Plugin::Bandwidth => {
            let result = chain.cached(&rig.host, container).context("ADD was cached")?;
            let veth = result["interfaces"][1]["name"].as_str().context("no host interface")?.to_owned();
            rig.host.run(["tc", "qdisc", "del", "dev", &veth, "root"]).map(drop)
        }
        Plugin::Vrf => container.container().ip("link set eth0 nomaster").map(drop),
        Plugin::Sbr => container.container().ip("rule del pref 32765").map(drop),
        Plugin::Resolver => container.container().nft("flush ruleset").map(drop),
        Plugin::Tuning => container.container().set_sysctl("net.core.somaxconn", "400"),
        Plugin::HostLocal => {
            let result = chain.cached(&rig.host, container).context("ADD was cached")?;
            Ok(fs::remove_file(chain.leases(&rig.host).join(address(&result)?))?)
        }
        Plugin::Static | Plugin::Dhcp => Ok(()),
    }
}

/// static has no state, and the state of dhcp is the server's: what they can notice is a result that no longer is what
/// they give.
fn ensure_change_noticed(rig: &Rig<'_>, key: &str, value: &str) -> Result<Kept> {
    let container = rig.container()?;
    let mut result = rig.chain()?.add(&rig.host, &container)?;
    address(&result)?;
    let check = |result: &Value| rig.call_after("CHECK", &container, VERSION, result).run(&rig.host);
    check(&result).context("CHECK of the true result")?;
    result["ips"][0][key] = json!(value);
    ensure!(check(&result).is_err(), "CHECK succeeds with the {key} {value} in prevResult");
    Ok(Kept::Yes)
}
