//! `zeugma dns`: what the resolver answers, asked of the agent.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use hyper::Method;
use zeugma_api::{Dump, Lookup, NameAnswers, NetworkNames, PortAnswer, ServiceAnswers, Status};
use zeugma_model::{AttachmentId, NetworkName};

use crate::client::{ask, quoted};
use crate::table::table;

/// The exit codes of `query`: found is success.
const NOT_FOUND: u8 = 1;
/// No agent, or no answer.
pub(crate) const TROUBLE: u8 = 2;

/// Which question.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Question {
    /// Looks a name up as a container would. Exits with 0 when it is found, 1 when it is not, 2 on trouble.
    Query(Query),
    /// Prints all names of all networks, and where the resolver listens.
    Dump {
        /// Prints JSON: see docs/reference/cli.md.
        #[arg(long)]
        json: bool,
    },
}

/// A name and who asks.
#[derive(Debug, Clone, Args)]
pub(crate) struct Query {
    /// The name: a container's, also below its domain, or any other.
    name: String,
    /// Asks as a container on this network would; without it, as the host.
    #[arg(long)]
    network: Option<NetworkName>,
    /// The type of the records: A, AAAA, PTR, SRV, ...
    #[arg(long = "type", default_value = "A")]
    kind: String,
    /// Prints JSON: see docs/reference/cli.md.
    #[arg(long)]
    json: bool,
}

/// Asks, prints, and says how it went.
pub(crate) fn run(question: &Question) -> ExitCode {
    let outcome = match question {
        Question::Query(query) => looked_up(query),
        Question::Dump { json } => dumped(*json),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::from(TROUBLE)
        }
    }
}

fn looked_up(query: &Query) -> Result<u8> {
    let lookup: Lookup = ask(Method::GET, &path(query))?;
    if query.json {
        println!("{}", serde_json::to_string_pretty(&lookup)?);
    } else {
        for record in &lookup.records {
            println!("{} {} {} {}", record.name, record.ttl, record.kind, record.data);
        }
    }
    let code = verdict(&lookup);
    if code != 0 && !query.json {
        let kind = query.kind.to_ascii_uppercase();
        let nothing =
            if lookup.code == "NOERROR" { format!("no records of type {kind}") } else { lookup.code };
        eprintln!("{}: {nothing}", query.name);
    }
    Ok(code)
}

fn path(query: &Query) -> String {
    let network = query.network.as_ref().map(|network| format!("&network={}", quoted(network.as_str())));
    format!(
        "{}?name={}&type={}{}",
        zeugma_api::DNS_QUERY,
        quoted(&query.name),
        quoted(&query.kind),
        network.unwrap_or_default()
    )
}

/// A refusal or a failure of a server says nothing of the name.
fn verdict(lookup: &Lookup) -> u8 {
    match (lookup.code.as_str(), lookup.records.is_empty()) {
        ("NOERROR", false) => 0,
        ("NOERROR", true) | ("NXDOMAIN", _) => NOT_FOUND,
        _ => TROUBLE,
    }
}

fn dumped(json: bool) -> Result<u8> {
    let dump: Dump = ask(Method::GET, zeugma_api::DNS_DUMP)?;
    let status: Status = ask(Method::GET, zeugma_api::STATUS)?;
    status.problems.iter().for_each(|problem| eprintln!("problem: {problem}"));
    if json {
        println!("{}", serde_json::to_string_pretty(&dump)?);
    } else {
        print!("{}", shown(&dump));
    }
    Ok(0)
}

/// A paragraph for each network, and one for the services.
fn shown(dump: &Dump) -> String {
    let networks = dump.networks.iter().map(paragraph);
    let services = (!dump.services.is_empty()).then(|| services(&dump.services));
    let paragraphs: Vec<String> = networks.chain(services).collect();
    if paragraphs.is_empty() { "no network has names\n".into() } else { paragraphs.join("\n") }
}

fn paragraph(network: &NetworkNames) -> String {
    let or_none = |text: String| if text.is_empty() { "-".into() } else { text };
    let servers = match (network.internal, network.servers.is_empty()) {
        (true, _) => "nobody".into(),
        (false, true) => "the host's servers".into(),
        (false, false) => joined(&network.servers),
    };
    let rows: Vec<[String; 4]> = network.names.iter().map(name_row).collect();
    format!(
        "network {}: domain {}, asked at {}, other names from {servers}\n{}",
        network.network,
        network.domain,
        or_none(joined(&network.listeners)),
        table(["NAME", "ADDRESSES", "CONTAINERS", "REFUSED TO"], &rows)
    )
}

fn name_row(name: &NameAnswers) -> [String; 4] {
    let containers = |ids: &[AttachmentId]| {
        ids.iter().map(|id| format!("{}/{}", id.container, id.ifname)).collect::<Vec<_>>().join(" ")
    };
    let holders = match name.services.first() {
        Some(service) => format!("service {service}"),
        None => containers(&name.attachments),
    };
    [name.name.clone(), joined(&name.addresses), holders, containers(&name.refused)]
}

fn services(services: &[ServiceAnswers]) -> String {
    let port = |port: &PortAnswer| {
        format!("_{}._{}={}:{}", port.name, port.protocol.as_str(), port.port, port.target)
    };
    let row = |service: &ServiceAnswers| {
        let unnamed = if service.nameless { " (no name in DNS)" } else { "" };
        [
            format!("{}{unnamed}", service.name),
            joined(&service.networks),
            joined(&service.addresses),
            joined(&service.tasks),
            service.ports.iter().map(port).collect::<Vec<_>>().join(" "),
        ]
    };
    let rows: Vec<_> = services.iter().map(row).collect();
    format!("services\n{}", table(["NAME", "NETWORKS", "ADDRESSES", "TASKS", "PORT=SERVICE:TASK"], &rows))
}

fn joined(parts: &[impl ToString]) -> String {
    parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code(rcode: &str, records: serde_json::Value) -> u8 {
        verdict(&serde_json::from_value(json!({"code": rcode, "records": records})).unwrap())
    }

    #[test]
    fn found_is_0_not_found_1_and_trouble_2() {
        let records = json!([{"name": "db.", "ttl": 5, "type": "A", "data": "10.88.0.2"}]);
        assert_eq!(code("NOERROR", records), 0);
        assert_eq!(code("NOERROR", json!([])), 1);
        assert_eq!(code("NXDOMAIN", json!([])), 1);
        assert_eq!([code("SERVFAIL", json!([])), code("REFUSED", json!([]))], [2, 2]);
    }

    #[test]
    fn a_question_of_the_host_names_no_network() {
        let query = |network: Option<&str>| Query {
            name: "a b".into(),
            network: network.map(|name| name.parse().unwrap()),
            kind: "AAAA".into(),
            json: false,
        };
        assert_eq!(path(&query(None)), "/v1/dns/query?name=a%20b&type=AAAA");
        assert_eq!(path(&query(Some("blue"))), "/v1/dns/query?name=a%20b&type=AAAA&network=blue");
    }

    #[test]
    fn a_dump_is_a_paragraph_for_each_network() {
        let dump = serde_json::from_value(json!({"generation": 1, "networks": [{
            "network": "blue", "domain": "zeugma.internal", "internal": false, "servers": [],
            "listeners": ["10.88.0.1:53"], "names": [{"name": "db", "addresses": ["10.88.0.2", "fd00::2"],
            "attachments": [{"network": "blue", "container": "c0", "ifname": "eth0"}]}],
        }]}));
        let text = shown(&dump.unwrap());
        let head = "network blue: domain zeugma.internal, asked at 10.88.0.1:53, other names from the host's servers";
        assert_eq!(
            text,
            format!(
                "{head}\nNAME  ADDRESSES          CONTAINERS  REFUSED TO\ndb    10.88.0.2 fd00::2  c0/eth0     -\n"
            )
        );
        assert_eq!(shown(&Dump::default()), "no network has names\n");
    }

    #[test]
    fn a_dump_has_services_and_says_which_names_are_theirs() {
        let dump = serde_json::from_value(json!({"generation": 1, "networks": [{
            "network": "blue", "domain": "d", "internal": true, "servers": [], "listeners": [],
            "names": [{"name": "api", "addresses": ["10.96.0.1"], "attachments": [], "services": ["api"],
                       "refused": [{"network": "blue", "container": "c0", "ifname": "eth0"}]}],
        }], "services": [
            {"name": "a..b", "networks": [], "addresses": [], "tasks": [], "nameless": true},
            {"name": "api", "networks": ["blue"], "addresses": ["10.96.0.1"], "tasks": ["10.88.0.2", "10.88.0.3"],
             "ports": [{"name": "http", "protocol": "tcp", "port": 80, "target": 8080}]},
        ]}));
        let text = shown(&dump.unwrap());
        let lines: Vec<_> =
            text.lines().map(|line| line.split("  ").map(str::trim).collect::<Vec<_>>()).collect();
        let line =
            |number: usize| lines[number].iter().filter(|cell| !cell.is_empty()).copied().collect::<Vec<_>>();
        assert_eq!(line(2), ["api", "10.96.0.1", "service api", "c0/eth0"]);
        assert_eq!(line(4), ["services"]);
        assert_eq!(line(6), ["a..b (no name in DNS)", "-", "-", "-", "-"]);
        assert_eq!(line(7), ["api", "blue", "10.96.0.1", "10.88.0.2 10.88.0.3", "_http._tcp=80:8080"]);
    }
}
