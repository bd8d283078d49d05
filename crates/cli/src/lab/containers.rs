//! Containers of a lab: a namespace, its interfaces as a runtime would have them made, and what runs in it.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netns_fixtures::lasting;
use serde_json::{Map, Value, json};
use zeugma_networks::{Attached, Cache, Chain, Directory};

use super::agents;
use super::hold::Order;
use super::record::{Interface, Kind, Place, Running};
use super::topology::{Container, Join};

/// Where runtimes have networks, plugins and results, on a machine of a lab as elsewhere.
const CONF_DIR: &str = "/etc/cni/net.d";
const BIN_DIR: &str = "/opt/cni/bin";
const CACHE_DIR: &str = "/var/lib/cni";

/// How long an agent may take to know a network, on a machine that has a lot to do.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Makes it, joins it to its networks and starts its command.
pub(super) fn start(
    machine: &lasting::Place,
    order: &Order,
    container: &Container,
) -> Result<(Place, lasting::Place)> {
    let place = machine.container(&container.name)?;
    place.tool("iproute2", &["ip", "link", "set", "lo", "up"], "")?;
    let owned = container.clone();
    let interfaces = machine.run(move || joined(&owned))?;
    let command = container.command.as_ref();
    let running: Option<Running> = command
        .map(|command| agents::command(&place, order, &container.name, command, &container.env))
        .transpose()?;
    let told = Place {
        name: container.name.clone(),
        kind: Kind::Container,
        machine: Some(container.machine.clone()),
        interfaces,
        processes: Vec::from_iter(running),
    };
    Ok((told, place))
}

/// All its interfaces; on the machine's thread.
fn joined(container: &Container) -> Result<Vec<Interface>> {
    let mut interfaces = Vec::new();
    let mut resolver = Resolver::default();
    for (number, join) in container.joins.iter().enumerate() {
        let what = || format!("container {} on network {}", container.name, join.network);
        let attached = attached(container, join, number)?;
        let result = added(join, &attached).with_context(what)?;
        Cache::at(Path::new(CACHE_DIR)).keep(&join.network, &attached, &result).with_context(what)?;
        resolver.learn(&result["dns"]);
        let addresses = texts(&result["ips"], |ip| ip.get("address"));
        let (name, network) = (attached.ifname.to_string(), Some(join.network.to_string()));
        interfaces.push(Interface { name, network, addresses });
    }
    let file = lasting::Place::files(&container.name).join("resolv.conf");
    fs::write(&file, resolver.text()).with_context(|| format!("write {}", file.display()))?;
    Ok(interfaces)
}

/// What ADD returns. An agent that did not create the network itself comes to know it a moment later.
fn added(join: &Join, attached: &Attached) -> Result<Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let list = Directory::at(CONF_DIR).find(&join.network)?.context("the agent wrote no list of it");
        let added = list.and_then(|list| Ok(Chain::new(&list, Path::new(BIN_DIR))?.add(attached)?));
        if added.is_ok() || Instant::now() > end {
            return added;
        }
        thread::sleep(PAUSE);
    }
}

fn attached(container: &Container, join: &Join, number: usize) -> Result<Attached> {
    let mut capabilities = Map::new();
    if !join.addresses.is_empty() {
        capabilities.insert("ips".into(), json!(join.addresses));
    }
    if !join.aliases.is_empty() {
        capabilities.insert("aliases".into(), json!({join.network.as_str(): join.aliases}));
    }
    // Ports are of the container, not of each of its networks; the first one leads to it.
    if !container.publish.is_empty() && number == 0 {
        let port = |port: &super::file::Published| {
            let mut mapping = json!({"hostPort": port.host, "containerPort": port.container,
                "protocol": port.protocol.as_str()});
            if let Some(address) = port.address {
                mapping["hostIP"] = json!(address);
            }
            mapping
        };
        let mappings: Vec<Value> = container.publish.iter().map(port).collect();
        capabilities.insert("portMappings".into(), json!(mappings));
    }
    let args = [("IgnoreUnknown", "1"), ("K8S_POD_NAME", &container.name)];
    Ok(Attached {
        container: container.name.parse()?,
        netns: Some(Path::new("/run/netns").join(&container.name)),
        ifname: format!("eth{number}").parse()?,
        args: args.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
        capabilities,
        labels: container.labels.clone(),
    })
}

/// What plugins say of names, as runtimes write it into a container's `/etc/resolv.conf`.
#[derive(Default)]
struct Resolver {
    nameservers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn learn(&mut self, dns: &Value) {
        let text = |value: &Value| texts(value, |item| Some(item));
        let lists = [
            (&mut self.nameservers, "nameservers"),
            (&mut self.search, "search"),
            (&mut self.options, "options"),
        ];
        for (list, key) in lists {
            for word in text(&dns[key]) {
                if !list.contains(&word) {
                    list.push(word);
                }
            }
        }
    }

    fn text(&self) -> String {
        let mut text: String =
            self.nameservers.iter().map(|server| format!("nameserver {server}\n")).collect();
        for (key, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                text += &format!("{key} {}\n", words.join(" "));
            }
        }
        text
    }
}

fn texts(list: &Value, part: impl Fn(&Value) -> Option<&Value>) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|item| part(item)?.as_str().map(str::to_owned)).collect()
}
