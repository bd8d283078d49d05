//! `zeugma stack`: the networks and services of a stack file. Its containers are the runtime's.
//!
//! What a file says is read in `file`; who belongs to a stack is told by a label, as Docker does it.

mod file;
mod ports;
mod tree;
mod update;
mod variables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use hyper::Method;
use serde::Serialize;
use zeugma_api::{SERVICE, ServiceView, Written};
use zeugma_model::{Network, NetworkName, Service, ServiceName};

use crate::client::{Question, Refusal, filled};
use crate::service::{self, show, tell_problems};
use crate::table::table;
use crate::watch::Listing;
use crate::{network, stack::file::Stack};

/// What to do with stacks.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Action {
    /// Makes the networks and services of a docker-stack.yml be there. Containers are started by their runtime.
    #[command(after_help = "Example: zeugma stack deploy -c docker-stack.yml shop")]
    Deploy(Deploy),
    /// Lists stacks.
    #[command(visible_alias = "list")]
    Ls(Listing),
    /// Lists the services of a stack.
    Services {
        /// The stack, or its file.
        #[arg(value_name = "NAME|FILE")]
        stack: String,
        #[command(flatten)]
        listing: Listing,
    },
    /// Removes the services and networks of a stack.
    #[command(visible_alias = "remove")]
    Rm {
        /// The stack, or its file.
        #[arg(value_name = "NAME|FILE")]
        stack: String,
    },
}

/// What is to be there.
#[derive(Debug, Clone, Args)]
pub(crate) struct Deploy {
    /// The stack's file; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    compose_file: Option<PathBuf>,
    /// With --compose-file the stack's name, else its file.
    #[arg(value_name = "NAME|FILE")]
    first: String,
    /// The stack's name, behind its file. Unless given, it is `name` in the file, or its directory's name.
    #[arg(value_name = "NAME", conflicts_with = "compose_file")]
    second: Option<String>,
    /// Removes services of the stack that are not in the file.
    #[arg(long)]
    prune: bool,
}

/// A stack as `--json` has it: an interface to be relied upon, docs/reference/cli.md.
#[derive(Debug, Clone, Default, Serialize)]
struct Listed {
    name: String,
    services: Vec<ServiceName>,
    networks: Vec<NetworkName>,
}

/// Does it.
pub(crate) fn run(action: Action) -> Result<ExitCode> {
    match action {
        Action::Deploy(deploy) => self::deploy(&deploy)?,
        Action::Ls(listing) => listing.print(listed, |stacks| stacks_table(stacks))?,
        Action::Services { stack, listing } => {
            let name = named(&stack)?;
            listing.print(|after| services_of(&name, after), |views| show::services(views))?;
        }
        Action::Rm { stack } => return removed(&named(&stack)?),
    }
    Ok(ExitCode::SUCCESS)
}

impl Deploy {
    fn file_and_name(&self) -> (PathBuf, Option<String>) {
        match &self.compose_file {
            Some(file) => (file.clone(), Some(self.first.clone())),
            None => (self.first.clone().into(), self.second.clone()),
        }
    }
}

fn deploy(flags: &Deploy) -> Result<()> {
    let (file, name) = flags.file_and_name();
    let (name, stack) = read(&file, name)?;
    stack.notes.iter().for_each(|note| eprintln!("zeugma: {note}"));
    if flags.prune && stack.services.is_empty() {
        bail!(
            "{} has no services, and --prune would remove all of {name}: `zeugma stack rm {name}` does that",
            file.display()
        );
    }
    for external in &stack.external {
        let there = network::all()?.iter().any(|view| view.network.name == *external);
        if !there {
            bail!("network {external} is external and not there: zeugma network create {external}");
        }
    }
    for network in &stack.networks {
        let unchanged = network::wanted(network)?;
        println!("network {} {}", network.name, if unchanged { "unchanged" } else { "created" });
    }
    for service in &stack.services {
        println!("service {} {}", service.name, deployed(service, &name)?);
    }
    if flags.prune {
        for view in services_of(&name, None)?.0 {
            let name = view.deployment.service.name;
            if !stack.services.iter().any(|service| service.name == name) {
                remove_service(&name)?;
                println!("service {name} removed");
            }
        }
    }
    Ok(())
}

/// What became of it.
fn deployed(service: &Service, stack: &str) -> Result<&'static str> {
    let path = filled(SERVICE, &[service.name.as_str()]);
    let before = match service::get(&service.name) {
        Ok(view) => Some(view.deployment.service),
        Err(error) if Refusal::is_absence(&error) => None,
        Err(error) => return Err(error),
    };
    let owner = before.as_ref().map(|before| before.labels.get(Network::STACK).map(String::as_str));
    if let Some(owner) = owner.filter(|owner| *owner != Some(stack)) {
        let owner = owner.map_or("no stack".into(), |owner| format!("stack {owner}"));
        bail!("service {} is there and belongs to {owner}: rename one of the two", service.name);
    }
    let question = Question::put(path, service)?;
    let written: Written = if before.is_none() { question.only_new() } else { question }.answer()?;
    tell_problems(&written);
    Ok(match (before.is_some(), written.unchanged) {
        (false, _) => "created",
        (true, true) => "unchanged",
        (true, false) => "updated",
    })
}

/// The stack of a file, and its name.
fn read(file: &Path, name: Option<String>) -> Result<(String, Stack)> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?,
        false => std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
    };
    let place = |wrong: String| anyhow!("{}: {wrong}; nothing was changed", file.display());
    let text = variables::filled(&text, &|name| std::env::var(name).ok()).map_err(place)?;
    let tree = tree::parsed(&text).map_err(|wrong| place(wrong.to_string()))?;
    let inside = tree.get("name").and_then(|name| name.text("name").ok()).map(str::to_owned);
    let name = name.or(inside).map_or_else(|| directory_of(file), Ok)?;
    let stack = file::read(&tree, &name).map_err(|wrong| place(wrong.to_string()))?;
    Ok((name, stack))
}

/// As Compose names a project that nobody named.
fn directory_of(file: &Path) -> Result<String> {
    let whole = std::path::absolute(file).ok();
    let directory =
        whole.as_ref().and_then(|path| path.parent()?.file_name()).filter(|_| file.as_os_str() != "-");
    let plain = |c: &char| c.is_ascii_alphanumeric() || "_-".contains(*c);
    let name: String = directory
        .map(|name| name.to_string_lossy().to_lowercase().chars().filter(plain).collect())
        .unwrap_or_default();
    match name.is_empty() {
        true => bail!("the stack has no name: write it behind {}", file.display()),
        false => Ok(name),
    }
}

/// A name, or the name of the stack in a file.
fn named(stack: &str) -> Result<String> {
    let is_file = stack == "-" || Path::new(stack).is_file();
    if is_file { read(Path::new(stack), None).map(|(name, _)| name) } else { Ok(stack.to_owned()) }
}

fn services_of(stack: &str, after: Option<u64>) -> Result<(Vec<ServiceView>, u64)> {
    let (mut views, revision) = service::all(after)?;
    views.retain(|view| view.deployment.service.labels.get(Network::STACK).is_some_and(|name| name == stack));
    Ok((views, revision))
}

fn networks_of(stack: &str) -> Result<Vec<NetworkName>> {
    let views = network::all()?.into_iter().map(|view| view.network);
    let ours = views.filter(|network| network.labels.get(Network::STACK).is_some_and(|name| name == stack));
    Ok(ours.map(|network| network.name).collect())
}

fn listed(after: Option<u64>) -> Result<(Vec<Listed>, u64)> {
    let (views, revision) = service::all(after)?;
    let mut stacks: BTreeMap<String, Listed> = BTreeMap::new();
    let mut stack = |labels: &BTreeMap<String, String>, add: &mut dyn FnMut(&mut Listed)| {
        if let Some(name) = labels.get(Network::STACK) {
            let empty = || Listed { name: name.clone(), ..Listed::default() };
            add(stacks.entry(name.clone()).or_insert_with(empty));
        }
    };
    for view in views {
        let service = view.deployment.service;
        stack(&service.labels, &mut |listed| listed.services.push(service.name.clone()));
    }
    for view in network::all()? {
        stack(&view.network.labels, &mut |listed| listed.networks.push(view.network.name.clone()));
    }
    Ok((stacks.into_values().collect(), revision))
}

fn stacks_table(stacks: &[Listed]) -> String {
    let row = |one: &Listed| {
        let networks: Vec<String> = one.networks.iter().map(ToString::to_string).collect();
        [one.name.clone(), one.services.len().to_string(), networks.join(",")]
    };
    table(["NAME", "SERVICES", "NETWORKS"], &stacks.iter().map(row).collect::<Vec<_>>())
}

fn remove_service(name: &ServiceName) -> Result<()> {
    let written: Written = Question::new(Method::DELETE, filled(SERVICE, &[name.as_str()])).answer()?;
    tell_problems(&written);
    Ok(())
}

/// Services first: networks are kept while one is on them. What cannot be removed is named, and the rest goes.
fn removed(stack: &str) -> Result<ExitCode> {
    let services: Vec<ServiceName> =
        services_of(stack, None)?.0.into_iter().map(|view| view.deployment.service.name).collect();
    let networks = networks_of(stack)?;
    if services.is_empty() && networks.is_empty() {
        bail!("there is no stack {stack}: `zeugma stack ls` lists them");
    }
    let mut code = ExitCode::SUCCESS;
    let mut tell = |what: &str, name: &str, outcome: Result<()>| match outcome {
        Ok(()) => println!("{what} {name} removed"),
        Err(error) => {
            eprintln!("Error: {error:#}");
            code = ExitCode::FAILURE;
        }
    };
    services.iter().for_each(|name| tell("service", name.as_str(), remove_service(name)));
    networks.iter().for_each(|name| tell("network", name.as_str(), network::remove(name)));
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        deploy: Deploy,
    }

    #[test]
    fn the_file_may_stand_on_either_side() {
        let said = |line: &str| {
            let line = Line::try_parse_from(["deploy"].into_iter().chain(line.split(' '))).unwrap();
            let (file, name) = line.deploy.file_and_name();
            (file.display().to_string(), name)
        };
        assert_eq!(said("-c a.yml shop"), ("a.yml".into(), Some("shop".into())));
        assert_eq!(said("a.yml shop"), ("a.yml".into(), Some("shop".into())));
        assert_eq!(said("a.yml"), ("a.yml".into(), None));
    }

    #[test]
    fn a_stack_is_called_what_its_file_says_or_its_directory_is() {
        let root = tempfile::tempdir().unwrap();
        let shop = root.path().join("My Shop");
        std::fs::create_dir(&shop).unwrap();
        let file = shop.join("docker-stack.yml");
        std::fs::write(&file, "services: {}").unwrap();
        assert_eq!(named(&file.display().to_string()).unwrap(), "myshop");
        std::fs::write(&file, "name: till\nservices: {}").unwrap();
        assert_eq!(named(&file.display().to_string()).unwrap(), "till");
        assert_eq!(named("shop").unwrap(), "shop");
    }
}
