//! What a host holds that somebody could have left behind: a value to compare before and after.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::Host;

/// The state of a host, a line per object. Equal values mean that nothing was left and nothing was lost.
///
/// Left out because they come and go by themselves: link-local addresses and routes, multicast routes, the kernel's
/// own routes to addresses of the host (IPv6's come a moment after the address, which has its own line), counters, interface indexes, resolved neighbours, flows of IGMP.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Residue {
    lines: BTreeSet<String>,
}

const SYSCTLS: [&str; 3] =
    ["net.ipv4.ip_forward", "net.ipv4.conf.all.route_localnet", "net.ipv6.conf.all.forwarding"];

impl Host {
    /// Takes stock of links, their queues, addresses, routes, rules, permanent neighbours, nft, sysctls and tracked flows.
    ///
    /// # Errors
    /// When one of `ip`, `tc`, `nft` and `conntrack` fails.
    pub fn residue(&self) -> Result<Residue> {
        let mut lines = BTreeSet::new();
        for link in array(self.ip_json("-d addr")?) {
            lines.extend(link_lines(&link));
            let key = format!("net.ipv4.conf.{}.route_localnet", text(&link["ifname"]).replace('.', "/"));
            lines.insert(format!("sysctl {key} = {}", self.sysctl(&key)?));
        }
        for family in ["-4", "-6"] {
            let routes = array(self.ip_json(&format!("{family} route show table all"))?);
            lines
                .extend(routes.iter().filter(|route| !is_automatic(route)).map(|route| said("route", route)));
            let rules = array(self.ip_json(&format!("{family} rule"))?);
            lines.extend(rules.iter().map(|rule| said(&format!("rule {family}"), rule)));
        }
        let neighbours = array(self.ip_json("neigh show nud permanent")?);
        lines.extend(neighbours.iter().map(|neighbour| said("neighbour", neighbour)));
        let queues = array(self.tc_json("qdisc show")?);
        lines.extend(queues.iter().map(queue_line));
        lines.extend(ruleset_lines(&self.nft_ruleset()?));
        for key in SYSCTLS {
            lines.insert(format!("sysctl {key} = {}", self.sysctl(key)?));
        }
        lines.extend(self.conntrack()?.iter().filter_map(|flow| flow_line(flow)));
        Ok(Residue { lines })
    }

    /// Demands that the host is as it was.
    ///
    /// # Errors
    /// With what is new (`+`) and what is missing (`-`).
    pub fn ensure_unchanged(&self, before: &Residue) -> Result<()> {
        let diff = before.diff(&self.residue()?);
        ensure!(diff.is_empty(), "{} is not as before:\n{diff}", self.name());
        Ok(())
    }
}

impl Residue {
    /// What `after` has more (`+`) and less (`-`), a line each; empty when they are equal.
    pub fn diff(&self, after: &Residue) -> String {
        let less = self.lines.difference(&after.lines).map(|line| format!("- {line}\n"));
        let more = after.lines.difference(&self.lines).map(|line| format!("+ {line}\n"));
        less.chain(more).collect()
    }

    /// Adds lines of the caller's own.
    pub fn with_lines(mut self, lines: impl IntoIterator<Item = String>) -> Residue {
        self.lines.extend(lines);
        self
    }

    /// Leaves lines out that may change.
    pub fn without(mut self, may_change: impl Fn(&str) -> bool) -> Residue {
        self.lines.retain(|line| !may_change(line));
        self
    }

    /// Adds the files below `dir` (paths only), for state kept outside the kernel.
    pub fn with_files(mut self, dir: &Path) -> Residue {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                self = self.with_files(&entry.path());
            } else {
                self.lines.insert(format!("file {}", entry.path().display()));
            }
        }
        self
    }
}

impl fmt::Debug for Residue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items.into_iter().filter(|item| item != &serde_json::json!({})).collect(),
        _ => Vec::new(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The queue of a link, or the place where filters for incoming packets are.
fn queue_line(queue: &Value) -> String {
    let place = if queue["root"] == true { "root".to_owned() } else { text(&queue["parent"]) };
    format!("queue {} {} {} {place}", text(&queue["dev"]), text(&queue["kind"]), text(&queue["handle"]))
}

/// One line for the link and one for each address that somebody gave it.
fn link_lines(link: &Value) -> Vec<String> {
    let name = text(&link["ifname"]);
    let mut line = format!("link {name}");
    for key in ["address", "mtu", "master", "ifalias", "txqlen", "promiscuity", "allmulti"] {
        if !link[key].is_null() {
            line += &format!(" {key} {}", text(&link[key]));
        }
    }
    let up = link["flags"].as_array().is_some_and(|flags| flags.contains(&"UP".into()));
    line += if up { " up" } else { " down" };
    let addresses = link["addr_info"].as_array().cloned().unwrap_or_default();
    let given = addresses.iter().filter(|address| address["scope"] != "link" || address["family"] != "inet6");
    let given =
        given.map(|address| format!("address {name} {}/{}", text(&address["local"]), address["prefixlen"]));
    std::iter::once(line).chain(given).collect()
}

fn is_automatic(route: &Value) -> bool {
    let dst = text(&route["dst"]);
    route["type"] == "multicast"
        || route["type"] == "anycast"
        || (route["type"] == "local" && route["protocol"] == "kernel")
        || dst.starts_with("fe80:")
        || dst.starts_with("ff00:")
}

/// The protocol and both directions; timeouts and states move by themselves. Flows without a known protocol
/// are the IGMP reports of every new IPv4 interface.
fn flow_line(flow: &str) -> Option<String> {
    let protocol = flow.split_whitespace().next().filter(|protocol| *protocol != "unknown")?;
    let tuples = flow.split_whitespace().filter(|word| {
        ["src=", "dst=", "sport=", "dport=", "type=", "id="].iter().any(|key| word.starts_with(key))
    });
    Some(tuples.fold(format!("conntrack {protocol}"), |line, word| format!("{line} {word}")))
}

fn said(kind: &str, object: &Value) -> String {
    let fields = object.as_object().into_iter().flatten().filter(|(key, _)| *key != "flags");
    fields.fold(kind.to_owned(), |line, (key, value)| format!("{line} {key} {}", text(value)))
}

/// Each line with the table, chain or set it stands in, so that lines of one kind stay apart.
fn ruleset_lines(ruleset: &str) -> Vec<String> {
    let (mut path, mut lines) = (Vec::<String>::new(), Vec::new());
    for line in ruleset.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line == "}" {
            path.pop();
            continue;
        }
        lines.push(format!("nft {} {line}", path.join(" ")));
        if let Some(block) = line.strip_suffix('{') {
            path.push(block.trim().to_owned());
        }
    }
    lines
}
