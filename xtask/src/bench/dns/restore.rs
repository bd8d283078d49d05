//! Rows about healing: how long the agent takes until the host is as before, for each kind of damage.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::ground::Ground;
use super::row;
use crate::bench::report::{Cell, Goal, Row};
use crate::cni::{self, Chain, Container};
use crate::{netns, shell};

/// Each damage is done so often, and the worst counts.
const TIMES: usize = 5;
const BRIDGE: &str = "b-mended";

/// What is done to the host.
struct Damage {
    key: &'static str,
    title: &'static str,
    command: String,
}

/// On a network with masquerade and a published port, while the agent has 5,000 names.
pub(super) fn rows(ground: &Ground) -> Result<Vec<Row>> {
    netns::ip("netns add mended")?;
    network(ground).add(&Container::named("mended"), &[cni::port(8080, 80)])?;
    let veth = shell::read(&mut shell::command("ip", ["-j", "link", "show", "master", BRIDGE]))?;
    let veth: Value = serde_json::from_str(&veth)?;
    let veth = veth[0]["ifname"].as_str().context("the bridge has no port")?;
    let damage = |key, title, command: &str| Damage { key, title, command: command.to_owned() };
    let all = [
        damage("restore_flush", "mended after `nft flush ruleset`, worst of 5", "nft flush ruleset"),
        damage("restore_table", "after our table was deleted", "nft delete table inet zeugma"),
        damage(
            "restore_address",
            "after a bridge lost its address",
            &format!("ip address flush dev {BRIDGE} scope global"),
        ),
        damage("restore_port", "after a veth left its bridge", &format!("ip link set {veth} nomaster")),
    ];
    all.iter().map(measured).collect()
}

fn network(ground: &Ground) -> Chain {
    let ipam =
        json!({"type": "host-local", "ranges": [[{"subnet": "10.97.0.0/16"}], [{"subnet": "fd97::/64"}]]});
    let bridge = json!({"type": "bridge", "bridge": BRIDGE, "isGateway": true, "ipMasq": true, "ipam": ipam});
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let (bin_dir, name) = (ground.bin_dir.clone(), "mended".to_owned());
    Chain { bin_dir, version: "1.0.0", name, plugins: vec![bridge, portmap, json!({"type": "resolver"})] }
}

fn measured(damage: &Damage) -> Result<Row> {
    let before = host()?;
    let mut worst = 0.0_f64;
    for _ in 0..TIMES {
        shell::read(&mut shell::command("sh", ["-c", &damage.command]))?;
        let begin = Instant::now();
        while host()? != before {
            if begin.elapsed() > Duration::from_secs(30) {
                bail!("`{}` was not mended:\n{before}\n{}", damage.command, host()?);
            }
        }
        worst = worst.max(begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(row(damage.key, damage.title, "ms", Goal::AtMost(1000.0), vec![Cell::bare(Some(worst))]))
}

/// Ruleset, the bridge's addresses and its ports.
fn host() -> Result<String> {
    let commands = [
        vec!["nft", "list", "ruleset"],
        vec!["ip", "-brief", "address", "show", "dev", BRIDGE],
        vec!["ip", "-brief", "link", "show", "master", BRIDGE],
    ];
    let said = |words: &Vec<&str>| shell::read(&mut shell::command(words[0], words[1..].iter().copied()));
    let said = commands.iter().map(said).collect::<Result<Vec<_>>>()?;
    // Elements are listed in any order, and addresses in that of their coming.
    let mut words: Vec<_> =
        said.iter().flat_map(|text| text.split_whitespace()).map(|w| w.trim_matches(',')).collect();
    words.sort_unstable();
    Ok(words.join(" "))
}
