//! A stack file (Compose, version 3) as networks and services: what is ours in it, and what is the runtime's. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use zeugma_model::{Network, NetworkName, Service, ServiceName};

use super::tree::{At, Key, Node, Tree, Wrong, is_extension};
use super::{ports, update};

/// What a file comes to.
#[derive(Debug, Default)]
pub(super) struct Stack {
    pub(super) networks: Vec<Network>,
    /// Networks that have to be there.
    pub(super) external: Vec<NetworkName>,
    pub(super) services: Vec<Service>,
    /// What was left out, a line each.
    pub(super) notes: Vec<String>,
}

/// A label of a service that says who serves it, instead of whoever has its name as an alias.
const SELECTOR: &str = "zeugma.selector";
/// Keys of a service that are ours.
const OF_SERVICE: &[&str] = &["networks", "ports", "expose", "deploy"];
/// Keys of the file that are the runtime's.
const OF_RUNTIME: &[&str] = &["volumes", "secrets", "configs", "version", "name", "include"];

/// Reads the file of stack `name`.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub(super) fn read(root: &Node, name: &str) -> Result<Stack, Wrong> {
    let known: Vec<&str> = OF_RUNTIME.iter().chain(&["services", "networks"]).copied().collect();
    root.ensure_known("the file", &known)?;
    let mut reader =
        Reader { name, stack: Stack::default(), names: BTreeMap::new(), not_ours: BTreeSet::new() };
    for (key, network) in root.get("networks").map_or(Ok(&[][..]), |it| it.map("networks"))? {
        reader.network(key, network)?;
    }
    for (key, service) in root.get("services").map_or(Ok(&[][..]), |it| it.map("services"))? {
        reader.service(key, service)?;
    }
    let others = OF_RUNTIME.iter().filter(|key| !["version", "name"].contains(*key));
    reader.not_ours.extend(others.filter(|key| root.get(key).is_some()).map(|key| (*key).to_owned()));
    Ok(reader.done())
}

struct Reader<'a> {
    name: &'a str,
    stack: Stack,
    /// Networks by their names in the file.
    names: BTreeMap<String, NetworkName>,
    not_ours: BTreeSet<String>,
}

impl Reader<'_> {
    fn done(mut self) -> Stack {
        if !self.not_ours.is_empty() {
            let keys: Vec<String> = self.not_ours.into_iter().collect();
            let told = format!("left to the container runtime: {}", keys.join(", "));
            self.stack.notes.insert(0, told);
        }
        self.stack
    }

    fn network(&mut self, key: &Key, node: &Node) -> Result<(), Wrong> {
        let what = format!("network {}", key.name);
        node.ensure_known(
            &what,
            &[
                "name",
                "driver",
                "driver_opts",
                "ipam",
                "internal",
                "attachable",
                "labels",
                "external",
                "enable_ipv4",
                "enable_ipv6",
            ],
        )?;
        let external =
            node.get("external").filter(|it| !matches!(&it.tree, Tree::Scalar(no) if no == "false"));
        let named = node.get("name").or_else(|| external.and_then(|external| external.get("name")));
        let own = match external {
            Some(_) => key.name.clone(),
            None => format!("{}_{}", self.name, key.name),
        };
        let name: NetworkName = match named {
            Some(named) => named.value(&what)?,
            None => own.parse().map_err(|error| key.at.wrong(error))?,
        };
        self.names.insert(key.name.clone(), name.clone());
        match external {
            Some(_) => self.stack.external.push(name),
            None => {
                let network = self.described(&what, name, node)?;
                self.stack.networks.push(network);
            }
        }
        Ok(())
    }

    fn described(&mut self, what: &str, name: NetworkName, node: &Node) -> Result<Network, Wrong> {
        let flag =
            |key: &str| node.get(key).map_or(Ok(false), |it| it.value::<bool>(&format!("{what}: {key}")));
        let driver = node.get("driver").map_or(Ok("bridge"), |it| it.text(what))?;
        let options = pairs(node.get("driver_opts"), &format!("{what}: driver_opts"))?;
        let mut labels = pairs(node.get("labels"), &format!("{what}: labels"))?;
        labels.insert(Network::STACK.into(), self.name.into());
        let network = json!({
            "name": name, "driver": driver, "options": options, "labels": labels, "internal": flag("internal")?,
            "ipv6": flag("enable_ipv6")?, "subnets": subnets(what, node.get("ipam"))?,
        });
        serde_json::from_value(network).map_err(|error| node.at.wrong(error))
    }

    fn service(&mut self, key: &Key, node: &Node) -> Result<(), Wrong> {
        let what = format!("service {}", key.name);
        let ours = |key: &Key| OF_SERVICE.contains(&key.name.as_str()) || is_extension(key);
        let others = node.map(&what)?.iter().filter(|(key, _)| !ours(key));
        self.not_ours.extend(others.map(|(key, _)| key.name.clone()));
        if node.get("network_mode").is_some() {
            self.stack.notes.push(format!("{what} has a network_mode: it is on no network, and no service"));
            return Ok(());
        }
        let networks = self.networks_of(&what, node)?;
        let empty = Node { at: node.at, tree: Tree::Nothing };
        let deploy = node.get("deploy").unwrap_or(&empty);
        self.not_ours.extend(update::not_ours(&what, deploy)?);
        if deploy.get("rollback_config").is_some() {
            self.stack
                .notes
                .push(format!("{what}: a rollback goes by update_config, not by rollback_config"));
        }
        if node.get("healthcheck").is_some() {
            let told = "for one of the service's own, zeugma service update --health-tcp or --health-http";
            self.stack.notes.push(format!("{what}: its healthcheck is its containers': {told}"));
        }
        let labels = pairs(deploy.get("labels"), &format!("{what}: deploy.labels"))?;
        let (ports, published) = ports::read(&what, node)?;
        let mode = self.mode(&what, deploy, ports.is_empty())?;
        let name: ServiceName =
            format!("{}_{}", self.name, key.name).parse().map_err(|error| key.at.wrong(error))?;
        let selector = selector(&key.name, &labels, deploy.at)?;
        let mut value = json!({
            "name": name, "networks": networks, "selector": selector, "mode": mode, "ports": ports,
            "published": published, "labels": labels, "update": update::policy(&what, deploy)?,
        });
        value["labels"][Network::STACK] = json!(self.name);
        let service = serde_json::from_value(value).map_err(|error| node.at.wrong(error))?;
        self.stack.services.push(service);
        Ok(())
    }

    /// Without ports a virtual address would lead nowhere.
    fn mode(&mut self, what: &str, deploy: &Node, is_without_ports: bool) -> Result<&'static str, Wrong> {
        let mode = match deploy.get("endpoint_mode") {
            None => "vip",
            Some(mode) => match mode.text(what)? {
                "vip" => "vip",
                "dnsrr" => "dnsrr",
                other => {
                    return Err(mode.at.wrong(format!("{what}: {other:?} is no mode: take vip or dnsrr")));
                }
            },
        };
        if mode == "vip" && is_without_ports {
            let told = "its name is answered with its containers: for an address of its own, list its ports (expose)";
            self.stack.notes.push(format!("{what} has no ports: {told}"));
            return Ok("dnsrr");
        }
        Ok(mode)
    }

    fn networks_of(&mut self, what: &str, node: &Node) -> Result<BTreeSet<NetworkName>, Wrong> {
        let listed = node.get("networks").filter(|it| !matches!(it.tree, Tree::Nothing));
        let Some(listed) = listed else { return Ok(BTreeSet::from([self.default_network(node.at)?])) };
        let mut wanted: Vec<(At, &str)> = Vec::new();
        match &listed.tree {
            Tree::Map(pairs) => {
                for (key, value) in pairs {
                    // Addresses and aliases are the container's: its runtime is told of them.
                    value.map(&format!("{what}: networks.{}", key.name))?;
                    wanted.push((key.at, &key.name));
                }
            }
            Tree::List(list) => {
                for one in list {
                    wanted.push((one.at, one.text(&format!("{what}: networks"))?));
                }
            }
            Tree::Scalar(_) | Tree::Nothing => {
                return Err(listed.at.wrong(format!("{what}: networks is to be a list or a map")));
            }
        }
        let mut networks = BTreeSet::new();
        for (at, name) in wanted {
            networks.insert(match (self.names.get(name), name) {
                (Some(network), _) => network.clone(),
                (None, "default") => self.default_network(at)?,
                (None, _) => {
                    return Err(at.wrong(format!("{what}: there is no network {name} below `networks`")));
                }
            });
        }
        Ok(networks)
    }

    fn default_network(&mut self, at: At) -> Result<NetworkName, Wrong> {
        if !self.names.contains_key("default") {
            let key = Key { at, name: "default".into() };
            self.network(&key, &Node { at, tree: Tree::Nothing })?;
        }
        Ok(self.names["default"].clone())
    }
}

/// A map of texts, or a list of `KEY=VALUE`.
fn pairs(node: Option<&Node>, what: &str) -> Result<BTreeMap<String, String>, Wrong> {
    let Some(node) = node else { return Ok(BTreeMap::new()) };
    let mut found = BTreeMap::new();
    if let Tree::List(list) = &node.tree {
        for one in list {
            let text = one.text(what)?;
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            found.insert(key.to_owned(), value.to_owned());
        }
        return Ok(found);
    }
    for (key, value) in node.map(what)? {
        let value = if matches!(value.tree, Tree::Nothing) { "" } else { value.text(what)? };
        found.insert(key.name.clone(), value.to_owned());
    }
    Ok(found)
}

fn subnets(what: &str, ipam: Option<&Node>) -> Result<Vec<Value>, Wrong> {
    let Some(ipam) = ipam else { return Ok(Vec::new()) };
    ipam.ensure_known(&format!("{what}: ipam"), &["driver", "config"])?;
    if let Some(driver) = ipam.get("driver") {
        match driver.text(what)? {
            "default" => {}
            other => {
                return Err(driver
                    .at
                    .wrong(format!("{what}: there is no IPAM driver {other:?}: leave it out")));
            }
        }
    }
    let mut subnets = Vec::new();
    for config in ipam.get("config").map_or(Ok(&[][..]), |it| it.list(&format!("{what}: ipam.config")))? {
        config.ensure_known(&format!("{what}: ipam.config"), &["subnet", "gateway", "ip_range"])?;
        let Some(subnet) = config.get("subnet") else { continue };
        let mut value = json!({"subnet": subnet.text(what)?});
        for (key, ours) in [("gateway", "gateway"), ("ip_range", "range")] {
            if let Some(node) = config.get(key) {
                value[ours] = json!(node.text(what)?);
            }
        }
        subnets.push(value);
    }
    Ok(subnets)
}

/// Compose tools hand a service's name to CNI as an alias of its containers.
fn selector(
    service: &str,
    labels: &BTreeMap<String, String>,
    at: At,
) -> Result<BTreeMap<String, String>, Wrong> {
    let Some(text) = labels.get(SELECTOR) else {
        return Ok(BTreeMap::from([(zeugma_model::Selector::ALIAS.to_owned(), service.to_owned())]));
    };
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        Some((key.trim().to_owned(), value.trim().to_owned()))
    };
    let pairs: Option<BTreeMap<_, _>> = text.split(',').map(pair).collect();
    pairs
        .ok_or_else(|| at.wrong(format!("service {service}: {SELECTOR}: write KEY=VALUE,… and not {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::super::tree::parsed;
    use super::*;

    const SHOP: &str = r#"
version: "3.8"
services:
  web:
    image: nginx
    networks: [front, back]
    ports:
      - "8080:80"
      - {target: 443, published: 8443, mode: host}
    deploy:
      replicas: 3
      labels: {tier: outer}
      update_config: {parallelism: 2, delay: 10s, failure_action: rollback, order: start-first}
  db:
    image: postgres
    networks: {back: {aliases: [store]}}
    expose: ["5432"]
    deploy: {endpoint_mode: dnsrr, labels: ["zeugma.selector=app=db,tier=data"]}
    healthcheck: {test: ["true"]}
networks:
  front: {driver: overlay, attachable: true}
  back:
    internal: true
    ipam: {config: [{subnet: 10.5.0.0/24, ip_range: 10.5.0.128/25}]}
    driver_opts: {com.docker.network.driver.mtu: 1400}
volumes: {data: }
"#;

    fn stack(text: &str) -> Result<Stack, String> {
        parsed(text).and_then(|tree| read(&tree, "shop")).map_err(|wrong| wrong.to_string())
    }

    fn refused(text: &str, expected: &str) {
        let wrong = stack(text).unwrap_err();
        assert!(wrong.contains(expected), "{wrong}");
    }

    #[test]
    fn networks_have_the_stack_s_name_and_label() {
        let stack = stack(SHOP).unwrap();
        let names: Vec<&str> = stack.networks.iter().map(|network| network.name.as_str()).collect();
        assert_eq!(names, ["shop_front", "shop_back"]);
        assert!(stack.networks[0].is_shared() && !stack.networks[1].is_shared());
        let back = &stack.networks[1];
        assert!(back.internal && back.labels[Network::STACK] == "shop" && back.mtu == Some(1400));
        assert_eq!(back.subnets[0].range.unwrap().to_string(), "10.5.0.128/25");
    }

    #[test]
    fn services_have_docker_s_ports_and_whoever_has_their_name_as_an_alias() {
        let stack = stack(SHOP).unwrap();
        let web = serde_json::to_value(&stack.services[0]).unwrap();
        assert_eq!((&web["name"], &web["selector"]), (&json!("shop_web"), &json!({"zeugma.alias": "web"})));
        assert_eq!(web["networks"], json!(["shop_back", "shop_front"]));
        assert_eq!(web["ports"][0], json!({"port": 80, "protocol": "tcp"}));
        assert_eq!(web["published"][0]["published"], 8080);
        assert_eq!(
            (&web["published"][1]["scope"], &web["published"][1]["port"]),
            (&json!("local"), &json!(443))
        );
        assert_eq!((&web["update"]["parallelism"], &web["update"]["delay_seconds"]), (&json!(2), &json!(10)));
        let db = serde_json::to_value(&stack.services[1]).unwrap();
        assert_eq!((&db["mode"], &db["selector"]), (&json!("dnsrr"), &json!({"app": "db", "tier": "data"})));
        assert_eq!(db["ports"][0]["port"], 5432);
    }

    #[test]
    fn what_is_not_ours_is_said_once() {
        let notes = stack(SHOP).unwrap().notes.join("\n");
        assert!(
            notes.starts_with("left to the container runtime: deploy.replicas, healthcheck, image, volumes"),
            "{notes}"
        );
        assert!(notes.contains("service db: its healthcheck is its containers'"), "{notes}");
    }

    #[test]
    fn a_service_without_networks_is_on_the_default_one() {
        let stack = stack("services: {web: {expose: [80]}, job: {}}").unwrap();
        assert_eq!(stack.networks.len(), 1);
        assert!(stack.services.iter().all(|one| one.networks.contains(&stack.networks[0].name)));
        assert!(
            stack.notes.iter().any(|note| note.contains("service job has no ports")),
            "{:?}",
            stack.notes
        );
    }

    #[test]
    fn external_networks_have_their_own_names() {
        let text = "networks: {lan: {external: true}, wan: {external: {name: out}}, own: {name: mine}}\n\
            services: {web: {networks: [lan, wan, own], expose: [80]}}";
        let stack = stack(text).unwrap();
        let names: Vec<String> = stack.services[0].networks.iter().map(ToString::to_string).collect();
        assert_eq!((names.join(" ").as_str(), stack.networks.len()), ("lan mine out", 1));
        assert_eq!(stack.external.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_column() {
        refused("netwroks: {}", "line 1, column 1: the file has no key \"netwroks\"");
        refused("networks:\n  a:\n    drivr: x", "line 3, column 5: network a has no key \"drivr\"");
        refused("networks:\n  a:\n    driver: x", "there is no driver");
        refused(
            "services:\n  web:\n    networks: [b]",
            "line 3, column 16: service web: there is no network b",
        );
        refused("services: {web: {ports: [\"127.0.0.1:80:80\"]}}", "leave the address out");
        refused("services: {web: {ports: [\"80-82:80\"]}}", "differ in length");
        refused("services: {web: {ports: [{target: 80, mode: x}]}}", "take ingress or host");
        refused("services: {web: {deploy: {endpoint_mode: x}}}", "take vip or dnsrr");
        refused("services: {web: {deploy: {update_config: {delay: 10}}}}", "no duration");
        refused("services: {web: {deploy: {paralelism: 1}}}", "no key \"paralelism\"");
    }
}
