//! `zeugma lab graph`: a lab as text, for Graphviz or for Mermaid. Pure but for the file that is read.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use super::record::Record;
use super::topology::{End, Link, Topology};
use super::{check, up};

/// Which lab, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// A lab's file, or the name of one that is up.
    lab: String,
    /// For whom.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For Graphviz: `| dot -Tsvg`.
    Dot,
    /// For Mermaid, as documents on forges have it.
    Mermaid,
}

/// Prints it.
pub(super) fn run(flags: &Flags) -> Result<ExitCode> {
    let topology = if Path::new(&flags.lab).is_file() {
        match up::read(Path::new(&flags.lab))? {
            Some((topology, _)) => topology,
            None => return Ok(ExitCode::FAILURE),
        }
    } else {
        let text = flags.lab.parse().ok().and_then(|name| Record::of(&name).topology());
        let text = text.with_context(|| format!("{} is neither a file nor a lab that is up", flags.lab))?;
        match check::topology(&text, &flags.lab) {
            Ok(topology) => topology,
            Err(_) => bail!("lab {} was set up by another version of zeugma: draw its file", flags.lab),
        }
    };
    print!("{}", drawn(&topology, flags.format));
    Ok(ExitCode::SUCCESS)
}

/// For the fuzzer: draws it in every way.
pub(super) fn fuzz(topology: &Topology) {
    for format in [Format::Text, Format::Dot, Format::Mermaid] {
        assert!(!drawn(topology, format).is_empty());
    }
}

fn drawn(topology: &Topology, format: Format) -> String {
    match format {
        Format::Text => text(topology),
        Format::Dot => dot(topology),
        Format::Mermaid => mermaid(topology),
    }
}

fn text(topology: &Topology) -> String {
    let mut drawn = format!("lab {}\n", topology.name);
    for machine in &topology.machines {
        let agent = if machine.agent.is_some() { "machine, agent" } else { "machine" };
        let _ = writeln!(drawn, "{} ({agent})", machine.name);
        for (link, end) in topology.ends_of(&machine.name) {
            let addresses: String = end.addresses.iter().map(|address| format!(" {address}")).collect();
            let _ = writeln!(drawn, "  {}{addresses} -- {}", end.interface, across(link, end));
        }
        for container in topology.containers_of(&machine.name) {
            let networks: Vec<&str> = container.joins.iter().map(|join| join.network.as_str()).collect();
            let on = if networks.is_empty() { String::new() } else { format!(" on {}", networks.join(", ")) };
            let ports =
                container.publish.iter().map(|port| format!(", port {}->{}", port.host, port.container));
            let _ = writeln!(drawn, "  [{}]{on}{}", container.name, ports.collect::<String>());
        }
    }
    drawn
}

/// What is at the other end of a link.
fn across(link: &Link, end: &End) -> String {
    match &link.switch {
        Some(switch) => format!("switch {switch}"),
        None => {
            let is_other = |one: &&End| (&one.machine, &one.interface) != (&end.machine, &end.interface);
            let other = link.ends.iter().find(is_other);
            other.map_or_else(String::new, |other| format!("{} {}", other.machine, other.interface))
        }
    }
}

/// Lines between two things with names, and what is written on them.
fn edges(topology: &Topology) -> Vec<(String, String, String)> {
    let first = |end: &End| end.addresses.first().map_or_else(String::new, ToString::to_string);
    let mut edges = Vec::new();
    for link in &topology.links {
        match (&link.switch, link.ends.as_slice()) {
            (None, [one, other]) => {
                let label = [first(one), first(other)].join(" - ");
                edges.push((one.machine.clone(), other.machine.clone(), label));
            }
            (Some(switch), ends) => {
                edges.extend(ends.iter().map(|end| (switch.clone(), end.machine.clone(), first(end))));
            }
            (None, _) => {}
        }
    }
    for container in &topology.containers {
        let networks: Vec<&str> = container.joins.iter().map(|join| join.network.as_str()).collect();
        edges.push((container.machine.clone(), container.name.clone(), networks.join(", ")));
    }
    edges
}

fn dot(topology: &Topology) -> String {
    let mut drawn = format!("graph {:?} {{\n", topology.name.as_str());
    for machine in &topology.machines {
        let _ = writeln!(drawn, "  {:?} [shape=box];", machine.name);
    }
    for switch in topology.links.iter().filter_map(|link| link.switch.as_ref()) {
        let _ = writeln!(drawn, "  {switch:?} [shape=diamond];");
    }
    for (one, other, label) in edges(topology) {
        let _ = writeln!(drawn, "  {one:?} -- {other:?} [label={label:?}];");
    }
    drawn + "}\n"
}

/// Names may have dots and dashes, which Mermaid's identifiers may not: those are numbers.
fn mermaid(topology: &Topology) -> String {
    let machines = topology.machines.iter().map(|machine| (machine.name.as_str(), ["[", "]"]));
    let switches =
        topology.links.iter().filter_map(|link| link.switch.as_deref()).map(|name| (name, ["{", "}"]));
    let containers = topology.containers.iter().map(|container| (container.name.as_str(), ["([", "])"]));
    let nodes: Vec<(&str, [&str; 2])> = machines.chain(switches).chain(containers).collect();
    let number = |name: &str| nodes.iter().position(|(one, _)| *one == name).unwrap_or_default();
    let mut drawn = "graph LR\n".to_owned();
    for (number, (name, [open, close])) in nodes.iter().enumerate() {
        let _ = writeln!(drawn, "  n{number}{open}\"{name}\"{close}");
    }
    for (one, other, label) in edges(topology) {
        let label = if label.is_empty() { String::new() } else { format!("|\"{label}\"|") };
        let _ = writeln!(drawn, "  n{} ---{label} n{}", number(&one), number(&other));
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: &str = "machines: [{name: host}, {name: client, agent: false}, {name: far.x, agent: false}]\n\
        links:\n- {ends: [host, client], subnets: [192.0.2.0/24]}\n- {switch: lan, ends: [client, far.x]}\n\
        networks: [{name: front}]\ncontainers: [{name: web, networks: [front], publish: ['8080:80']}]\n";

    fn check(format: Format, expected: &str) {
        let topology = check::topology(LAB, "mine").unwrap();
        assert_eq!(drawn(&topology, format), expected);
    }

    #[test]
    fn people_read_who_is_joined_to_whom() {
        let expected = "lab mine\nhost (machine, agent)\n  eth0 192.0.2.1/24 -- client eth0\n  [web] on front, port 8080->80\n\
            client (machine)\n  eth0 192.0.2.2/24 -- host eth0\n  eth1 -- switch lan\n\
            far.x (machine)\n  eth0 -- switch lan\n";
        check(Format::Text, expected);
    }

    #[test]
    fn programs_get_the_same_as_a_graph() {
        let expected = "graph \"mine\" {\n  \"host\" [shape=box];\n  \"client\" [shape=box];\n  \"far.x\" [shape=box];\n  \
            \"lan\" [shape=diamond];\n  \"host\" -- \"client\" [label=\"192.0.2.1/24 - 192.0.2.2/24\"];\n  \
            \"lan\" -- \"client\" [label=\"\"];\n  \"lan\" -- \"far.x\" [label=\"\"];\n  \"host\" -- \"web\" [label=\"front\"];\n}\n";
        check(Format::Dot, expected);
        let expected = "graph LR\n  n0[\"host\"]\n  n1[\"client\"]\n  n2[\"far.x\"]\n  n3{\"lan\"}\n  n4([\"web\"])\n  \
            n0 ---|\"192.0.2.1/24 - 192.0.2.2/24\"| n1\n  n3 --- n1\n  n3 --- n2\n  n0 ---|\"front\"| n4\n";
        check(Format::Mermaid, expected);
    }
}
