//! Ports of a service in a stack file, in the short and the long form.
//!
//! Docker's service has the container's ports on its virtual address, and so has ours.

use serde_json::{Value, json};

use super::tree::{Node, Tree, Wrong};

/// More at once is a mistake.
const MOST: u16 = 1000;

/// A port of the service, and of hosts.
struct Port {
    target: u16,
    published: Option<u16>,
    protocol: String,
    name: Option<String>,
    is_local: bool,
}

/// The service's ports, and the published ones, as a service has them.
pub(super) fn read(what: &str, service: &Node) -> Result<(Vec<Value>, Vec<Value>), Wrong> {
    let mut found: Vec<Port> = Vec::new();
    for port in service.get("ports").map_or(Ok(&[][..]), |it| it.list(&format!("{what}: ports")))? {
        match &port.tree {
            Tree::Map(_) => found.push(long(what, port)?),
            _ => found.extend(short(what, port)?),
        }
    }
    for port in service.get("expose").map_or(Ok(&[][..]), |it| it.list(&format!("{what}: expose")))? {
        found.extend(short(what, port)?);
    }
    let (mut ports, mut published): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    for port in found {
        let is_there = |one: &Value| one["port"] == port.target && one["protocol"] == port.protocol.as_str();
        if !ports.iter().any(is_there) {
            let mut value = json!({"port": port.target, "protocol": port.protocol});
            if let Some(name) = port.name {
                value["name"] = json!(name);
            }
            ports.push(value);
        }
        if let Some(host) = port.published {
            let scope = if port.is_local { "local" } else { "mesh" };
            published.push(
                json!({"published": host, "port": port.target, "protocol": port.protocol, "scope": scope}),
            );
        }
    }
    Ok((ports, published))
}

fn long(what: &str, node: &Node) -> Result<Port, Wrong> {
    let what = format!("{what}: ports");
    node.ensure_known(&what, &["target", "published", "protocol", "mode", "name", "app_protocol"])?;
    let target = node.get("target").ok_or_else(|| node.at.wrong(format!("{what}: say the target")))?;
    let is_local = match node.get("mode") {
        None => false,
        Some(mode) => match mode.text(&what)? {
            "ingress" => false,
            "host" => true,
            other => {
                return Err(mode.at.wrong(format!("{what}: {other:?} is no mode: take ingress or host")));
            }
        },
    };
    let text = |key: &str| node.get(key).map(|it| it.text(&what).map(str::to_owned)).transpose();
    Ok(Port {
        target: target.value(&what)?,
        published: node.get("published").map(|it| it.value(&what)).transpose()?,
        protocol: text("protocol")?.unwrap_or_else(|| "tcp".into()),
        name: text("name")?,
        is_local,
    })
}

/// `[[IP:]PUBLISHED:]TARGET[/PROTOCOL]`, each a number or FIRST-LAST.
fn short(what: &str, node: &Node) -> Result<Vec<Port>, Wrong> {
    let text = node.text(&format!("{what}: ports"))?;
    let wrong = |why: &str| node.at.wrong(format!("{what}: port {text:?}: {why}"));
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (published, target) = match ports.rsplit_once(':') {
        Some((published, target)) => (Some(published), target),
        None => (None, ports),
    };
    if published.is_some_and(|published| published.contains(':')) {
        return Err(wrong("a service is published on all addresses: leave the address out"));
    }
    let range = |text: &str| range(text).ok_or_else(|| wrong("write PUBLISHED:TARGET, such as 8080:80"));
    let targets = range(target)?;
    let hosts = published.filter(|text| !text.is_empty()).map(range).transpose()?;
    if hosts.as_ref().is_some_and(|hosts| hosts.len() != targets.len()) {
        return Err(wrong("the two ranges differ in length"));
    }
    let port = |(at, target): (usize, &u16)| Port {
        target: *target,
        published: hosts.as_ref().map(|hosts| hosts[at]),
        protocol: protocol.into(),
        name: None,
        is_local: false,
    };
    Ok(targets.iter().enumerate().map(port).collect())
}

fn range(text: &str) -> Option<Vec<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last && last - first < MOST).then(|| (first..=last).collect())
}
