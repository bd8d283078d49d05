//! `zeugma dns`: what the resolver answers, asked of the agent.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use hyper::Method;
use zeugma_api::{Dump, Lookup, NetworkNames, Status};
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

/// A paragraph for each network.
fn shown(dump: &Dump) -> String {
    let paragraphs: Vec<String> = dump.networks.iter().map(paragraph).collect();
    if paragraphs.is_empty() { "no network has names\n".into() } else { paragraphs.join("\n") }
}

fn paragraph(network: &NetworkNames) -> String {
    let joined = |parts: Vec<String>| if parts.is_empty() { "-".into() } else { parts.join(" ") };
    let servers = match (network.internal, network.servers.is_empty()) {
        (true, _) => "nobody".into(),
        (false, true) => "the host's servers".into(),
        (false, false) => joined(network.servers.iter().map(ToString::to_string).collect()),
    };
    let listeners = joined(network.listeners.iter().map(ToString::to_string).collect());
    let containers = |ids: &[AttachmentId]| {
        ids.iter().map(|id| format!("{}/{}", id.container, id.ifname)).collect::<Vec<_>>().join(" ")
    };
    let rows: Vec<[String; 4]> = network
        .names
        .iter()
        .map(|name| {
            let addresses: Vec<String> = name.addresses.iter().map(ToString::to_string).collect();
            [name.name.clone(), addresses.join(" "), containers(&name.attachments), containers(&name.refused)]
        })
        .collect();
    format!(
        "network {}: domain {}, asked at {listeners}, other names from {servers}\n{}",
        network.network,
        network.domain,
        table(["NAME", "ADDRESSES", "CONTAINERS", "REFUSED TO"], &rows)
    )
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
}
