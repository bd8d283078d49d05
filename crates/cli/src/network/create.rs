//! `zeugma network create`: flags in Docker's words become a network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use clap::{ArgAction, Args};
use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};
use zeugma_api::{NETWORK, NetworkWritten};
use zeugma_model::{Network, NetworkName};

use super::tell_problems;
use crate::client::{Question, filled};
use crate::service::label;

/// A network to be.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The name.
    name: NetworkName,
    /// How containers are joined: bridge, overlay, macvlan, ipvlan or ptp.
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// A subnet, such as 10.1.0.0/24; one is found unless given. May be given several times.
    #[arg(long = "subnet", value_name = "CIDR")]
    subnets: Vec<IpNetwork>,
    /// The gateway of the subnet that it is in: the first address unless given. May be given several times.
    #[arg(long = "gateway", value_name = "ADDRESS", requires = "subnets")]
    gateways: Vec<IpAddr>,
    /// The part of the subnet around it that containers get addresses of. May be given several times.
    #[arg(long = "ip-range", value_name = "CIDR", requires = "subnets")]
    ranges: Vec<IpNetwork>,
    /// Has IPv6, too; a subnet is found unless given.
    #[arg(long)]
    ipv6: bool,
    /// Has no way out, and publishes no ports.
    #[arg(long)]
    internal: bool,
    /// Whether its containers reach one another.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    icc: bool,
    /// Bytes in a packet; that of the wire below unless given.
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// An option of the driver: see docs/networks.md. May be given several times.
    #[arg(short, long = "opt", value_name = "KEY[=VALUE]", value_parser = option)]
    options: Vec<(String, String)>,
    /// A label. May be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Its containers do not find one another by name.
    #[arg(long)]
    no_dns: bool,
}

/// As Docker takes them: `encrypted` has no value.
fn option(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() { Err("it has no key".into()) } else { Ok((key.into(), value.into())) }
}

/// Creates it, and prints its name and its subnets.
pub(super) fn run(options: &Options) -> Result<()> {
    let network = options.network()?;
    let path = filled(NETWORK, &[network.name.as_str()]);
    let written: NetworkWritten = Question::put(path, &network)?.only_new().answer()?;
    let subnets: Vec<String> = written.network.subnets.iter().map(ToString::to_string).collect();
    println!("{} {}", network.name, if subnets.is_empty() { "-".into() } else { subnets.join(" ") });
    tell_problems(&network.name, &written.problems);
    Ok(())
}

/// Makes a network be there; whether it was already.
pub(crate) fn wanted(network: &Network) -> Result<bool> {
    let path = filled(NETWORK, &[network.name.as_str()]);
    let written: NetworkWritten = Question::put(path, network)?.answer()?;
    tell_problems(&network.name, &written.problems);
    Ok(written.unchanged)
}

impl Options {
    fn network(&self) -> Result<Network> {
        let pairs = |pairs: &[(String, String)]| pairs.iter().cloned().collect::<BTreeMap<_, _>>();
        let mut network = json!({
            "name": self.name, "driver": self.driver, "subnets": self.subnets()?, "ipv6": self.ipv6,
            "internal": self.internal, "icc": self.icc, "dns": !self.no_dns,
            "options": pairs(&self.options), "labels": pairs(&self.labels),
        });
        if let Some(mtu) = self.mtu {
            network["mtu"] = json!(mtu);
        }
        Ok(serde_json::from_value(network)?)
    }

    /// As Docker does: gateways and ranges go to the subnet that they are in.
    fn subnets(&self) -> Result<Vec<Value>> {
        let mut subnets: Vec<Map<String, Value>> =
            self.subnets.iter().map(|subnet| Map::from_iter([("subnet".into(), json!(subnet))])).collect();
        let gateways = self.gateways.iter().map(|gateway| ("gateway", *gateway, json!(gateway)));
        let ranges = self.ranges.iter().map(|range| ("range", range.network(), json!(range)));
        for (key, address, value) in gateways.chain(ranges) {
            let at = self.subnets.iter().position(|subnet| subnet.contains(address));
            let at =
                at.with_context(|| format!("no --subnet has the {key} {value}: name its subnet, too"))?;
            let other = subnets[at].insert(key.into(), value.clone());
            ensure!(other.is_none(), "subnet {} has two of {key}: leave one", self.subnets[at]);
        }
        Ok(subnets.into_iter().map(Value::Object).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn network(line: &str) -> Result<Network> {
        Line::try_parse_from(["create"].into_iter().chain(line.split(' ')))?.options.network()
    }

    #[test]
    fn docker_s_flags_make_a_network() {
        let network = network(
            "front --subnet 10.1.0.0/24 --subnet fd00:1::/64 --gateway fd00:1::9 --ip-range 10.1.0.128/25 \
             --gateway 10.1.0.254 --ipv6 --icc=false --mtu 1400 --opt com.docker.network.bridge.name=br7 \
             --label a=b --no-dns --internal",
        );
        let network = network.unwrap();
        let gateways: Vec<String> = network.subnets.iter().map(|one| one.gateway.to_string()).collect();
        assert_eq!(gateways, ["10.1.0.254", "fd00:1::9"]);
        assert_eq!(network.subnets[0].range.unwrap().to_string(), "10.1.0.128/25");
        assert_eq!(network.bridge().unwrap().as_str(), "br7");
        assert!(!network.icc && !network.dns && network.internal && network.ipv6);
        assert_eq!((network.mtu, network.labels["a"].as_str()), (Some(1400), "b"));
    }

    #[test]
    fn an_overlay_is_encrypted_by_docker_s_word() {
        let network = network("front -d overlay --opt encrypted --opt reachable_from=back").unwrap();
        assert_eq!(network.overlay().unwrap().backend, zeugma_model::Backend::Wireguard);
    }

    #[test]
    fn what_belongs_to_no_subnet_or_twice_is_refused() {
        let refused = |line: &str, words: &str| {
            let error = network(line).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused("front --subnet 10.1.0.0/24 --gateway 10.2.0.1", "name its subnet");
        refused("front --subnet 10.1.0.0/24 --gateway 10.1.0.1 --gateway 10.1.0.2", "leave one");
        refused("front --gateway 10.1.0.1", "--subnet");
        refused("front --driver overlay2", "take bridge");
        refused("front --opt a=b", "no option \"a\"");
    }
}
