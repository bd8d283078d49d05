//! `zeugma lab ls`: what is in labs.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::down::name;
use super::record::{Kind, Place, Record, Running};
use crate::table::table;

/// Which labs, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// A lab's name or file; all labs unless given.
    lab: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Prints them.
pub(super) fn run(flags: &Flags) -> Result<()> {
    let records = match flags.lab.as_deref().map(name).transpose()? {
        None => Record::all()?,
        Some(name) => match Record::of(&name) {
            record if record.exists() => vec![record],
            _ => bail!("there is no lab {name}: `zeugma lab ls` lists those that are up"),
        },
    };
    if flags.json {
        let labs: Vec<Value> = records.iter().map(shown).collect();
        println!("{:#}", json!(labs));
    } else {
        print!("{}", table(["LAB", "NAME", "KIND", "ON", "STATE", "ADDRESSES"], &rows(&records)));
    }
    Ok(())
}

fn shown(record: &Record) -> Value {
    let state = record.state();
    let up = if state.is_some() { "up" } else { "broken" };
    json!({
        "name": record.name,
        "state": up,
        "pid": record.holder().map(|holder| holder.pid),
        "places": state.unwrap_or_default().places,
    })
}

fn rows(records: &[Record]) -> Vec<[String; 6]> {
    let mut rows = Vec::new();
    for record in records {
        let Some(state) = record.state() else {
            let remedy = format!("broken: zeugma lab down {}", record.name);
            rows.push([
                record.name.to_string(),
                String::new(),
                "lab".into(),
                String::new(),
                remedy,
                String::new(),
            ]);
            continue;
        };
        rows.extend(state.places.iter().map(|place| row(record.name.as_str(), place)));
    }
    rows
}

fn row(lab: &str, place: &Place) -> [String; 6] {
    let kind = match place.kind {
        Kind::Machine => "machine",
        Kind::Switch => "switch",
        Kind::Container => "container",
    };
    let addresses: Vec<&str> =
        place.interfaces.iter().flat_map(|one| &one.addresses).map(String::as_str).collect();
    let states: Vec<String> = place.processes.iter().map(state).collect();
    let on = place.machine.clone().unwrap_or_default();
    [lab.to_owned(), place.name.clone(), kind.into(), on, states.join(", "), addresses.join(" ")]
}

fn state(process: &Running) -> String {
    match process.exit {
        None => format!("{} runs", process.what),
        Some(code) => format!("{} ended ({code})", process.what),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Interface;
    use super::*;

    #[test]
    fn a_place_is_shown_with_its_addresses_and_how_its_processes_are() {
        let interface = |name: &str, address: &str| Interface {
            name: name.into(),
            network: None,
            addresses: vec![address.into()],
        };
        let process = |what: &str, exit| Running { what: what.into(), pid: 7, exit };
        let place = Place {
            name: "host".into(),
            kind: Kind::Machine,
            machine: None,
            interfaces: vec![interface("eth0", "192.0.2.1/24"), interface("eth1", "fd00::1/64")],
            processes: vec![process("agent", None), process("command", Some(137))],
        };
        let expected =
            ["mine", "host", "machine", "", "agent runs, command ended (137)", "192.0.2.1/24 fd00::1/64"];
        assert_eq!(row("mine", &place), expected);
    }
}
