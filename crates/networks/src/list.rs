//! A configuration list, whoever wrote it: what can be told of its network without running anything.

use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use zeugma_model::{Network, NetworkName};
use zeugma_plan::network::{MARK, ORIGIN, declared};

/// A list, and the file that it is in.
#[derive(Debug, Clone, PartialEq)]
pub struct List {
    /// The file.
    pub path: PathBuf,
    /// The network.
    pub name: NetworkName,
    /// Itself; a configuration of a single plugin as a list of one.
    pub value: Value,
}

impl List {
    /// None for what is no network: runtimes skip such files, too.
    pub(crate) fn parse(path: &Path, text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let name = value.get("name")?.as_str()?.parse().ok()?;
        let value = match value.get("plugins") {
            Some(_) => value,
            None => {
                value.get("type")?;
                json!({"cniVersion": value.get("cniVersion"), "name": name, "plugins": [value]})
            }
        };
        Some(Self { path: path.into(), name, value })
    }

    /// Whether zeugma wrote it.
    pub fn is_ours(&self) -> bool {
        self.value.get(MARK).is_some()
    }

    /// Which catalogue has the network, and which node in it; none when it is another maker's.
    pub fn origin(&self) -> Option<&str> {
        self.value.get(ORIGIN).and_then(Value::as_str)
    }

    /// The network that it was made of; none when it is another maker's.
    pub fn network(&self) -> Option<Network> {
        declared(&self.value)
    }

    /// Its plugins, in order.
    pub fn plugins(&self) -> &[Value] {
        self.value.get("plugins").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The plain name of the plugin that joins containers to it.
    pub fn driver(&self) -> &str {
        let kind = self.plugins().first().and_then(|plugin| plugin.get("type")).and_then(Value::as_str);
        let kind = kind.unwrap_or_default();
        kind.strip_prefix("zeugma-").unwrap_or(kind)
    }

    /// The subnets that its plugins name, wherever they do: `subnet` is the word of all IPAM plugins that have one. Those
    /// of an overlay are not for its plugin, which has a host's part of them.
    pub fn subnets(&self) -> Vec<(IpNetwork, Option<String>)> {
        if let Some(network) = self.network().filter(Network::is_shared) {
            return network.subnets.into_iter().map(|one| (one.subnet, None)).collect();
        }
        let mut found = Vec::new();
        self.plugins()
            .iter()
            .filter_map(|plugin| plugin.get("ipam"))
            .for_each(|ipam| subnets(ipam, &mut found));
        found
    }
}

fn subnets(value: &Value, found: &mut Vec<(IpNetwork, Option<String>)>) {
    match value {
        Value::Object(keys) => {
            let text = |key: &str| keys.get(key).and_then(Value::as_str);
            if let Some(subnet) = text("subnet").and_then(|text| text.parse().ok()) {
                found.push((subnet, text("gateway").map(str::to_owned)));
            }
            keys.values().for_each(|value| subnets(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| subnets(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: &Value) -> Option<List> {
        List::parse(Path::new("/x"), value.to_string().as_bytes())
    }

    #[test]
    fn an_overlay_s_subnets_are_the_network_s() {
        let overlay = json!({"name": "a", "driver": "overlay", "subnets": [{"subnet": "10.112.0.0/16"}]});
        let list = json!({"name": "a", "plugins": [{"type": "zeugma-overlay"}], "zeugma": overlay});
        let list = parsed(&list).unwrap();
        assert_eq!((list.driver(), list.subnets().len()), ("overlay", 1));
    }

    #[test]
    fn subnets_are_found_in_every_form() {
        let ipam = json!({"type": "host-local", "subnet": "10.1.0.0/24", "gateway": "10.1.0.9",
            "ranges": [[{"subnet": "fd00::/64"}]]});
        let list = json!({"name": "a", "plugins": [{"type": "zeugma-bridge", "ipam": ipam}]});
        let list = parsed(&list).unwrap();
        let found: Vec<String> = list.subnets().iter().map(|(subnet, _)| subnet.to_string()).collect();
        assert_eq!(found, ["10.1.0.0/24", "fd00::/64"]);
        assert_eq!(list.subnets()[0].1.as_deref(), Some("10.1.0.9"));
        assert_eq!((list.driver(), list.is_ours()), ("bridge", false));
    }

    #[test]
    fn a_configuration_of_one_plugin_is_a_list_of_one() {
        let list = parsed(&json!({"name": "a", "cniVersion": "0.4.0", "type": "macvlan"})).unwrap();
        assert_eq!((list.driver(), list.plugins().len()), ("macvlan", 1));
        assert_eq!(list.value["cniVersion"], "0.4.0");
        assert_eq!(parsed(&json!({"name": "a"})), None);
        assert_eq!(parsed(&json!({"type": "bridge"})), None);
    }
}
