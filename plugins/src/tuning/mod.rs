//! `tuning` changes sysctls and link settings of a container. What may be told: config.rs. User page:
//! docs/plugins/tuning.md.

mod allowlist;
mod backup;
pub(crate) mod config;
mod error;

pub use error::Error;

use zeugma_journal::{Entry, Journal, LinkBackup, NetnsRef, Record};
use zeugma_kernel::{Kernel, LinkState};
use zeugma_model::IfName;
use zeugma_plan::{LinkChange, Plan, Side, Step, Sysctl};
use zeugma_protocol::CniResult;
use zeugma_skel::{NetworkRequest, Plugin, Request};

use crate::cause::{Cause, several};
use crate::{previous, shared};
use config::Config;

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tuning;

impl Plugin for Tuning {
    type Error = Error;
    const NAME: &'static str = "tuning";

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let config = Config::of(request)?;
        allowlist::check(&config.sysctls)?;
        let mut result = previous::chained(request, Self::NAME)?.clone();
        let mut kernel = container(request)?;
        let before = match config.changes_link() {
            true => Some(link(&mut kernel, &request.ifname)?),
            false => None,
        };
        let record = Record {
            plugin: Self::NAME.into(),
            netns: request.netns.as_deref().and_then(NetnsRef::of),
            backup: before.as_ref().map(|state| backup(&config, state)),
            ..Record::default()
        };
        let journal = Journal::default();
        let mut entry = journal.begin(&request.attachment(), record)?;
        let plan = match tuned(&config, &request.ifname, before.as_ref(), &kernel) {
            Ok(plan) => plan,
            Err(error) => {
                journal.remove(&entry)?;
                return Err(error);
            }
        };
        if let Err(error) = kernel.apply(&plan) {
            journal.remove(&entry)?;
            return Err(explained(error));
        }
        if let Err(error) = journal.finish(&mut entry) {
            shared::take_back(&mut kernel, &plan);
            journal.remove(&entry)?;
            return Err(error.into());
        }
        mend(&mut result, &config, &request.ifname);
        Ok(result)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let journal = Journal::default();
        journal.tidy(&request.attachment())?;
        match journal.last(&request.attachment(), Self::NAME)? {
            Some(entry) => Ok(several(restore(&journal, request, &entry))?),
            None => restore_unknown(request),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        previous::checked(request, Self::NAME)?;
        let mut kernel = container(request)?;
        for (path, wanted) in &config.sysctls {
            let has = kernel.sysctl(Side::Container, path)?;
            if has.as_deref().map(config::fields) != Some(config::fields(wanted)) {
                return Err(Error::Changed(format!(
                    "sysctl {path} is {}, not {wanted}",
                    has.unwrap_or_default()
                )));
            }
        }
        if config.changes_link() {
            check_link(&config, &link(&mut kernel, &request.ifname)?)?;
        }
        Ok(())
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        let journal = Journal::default();
        // The container is not valid any more: nobody needs its settings back.
        let forget = |_: &_, entry: &Entry| Vec::from_iter(journal.remove(entry).err().map(Cause::from));
        let (_, causes) = shared::clear_stale(&journal, &request.conf, Self::NAME, forget)?;
        Ok(several(causes)?)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        let config = Config::of_network(&request.conf)?;
        allowlist::check(&config.sysctls).map_err(|error| Error::NotAvailable(error.to_string()))
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        let config = Config::of(request)?;
        allowlist::check(&config.sysctls)?;
        Ok(tuned(&config, &request.ifname, None, &Kernel::host())?.to_string())
    }
}

fn container(request: &Request) -> Result<Kernel, Error> {
    let path = request.netns.as_ref().ok_or(zeugma_kernel::Error::NoContainer)?;
    Ok(Kernel::with_container(path)?)
}

/// What the kernel answers to a number out of its range, or to a multicast address as a link's own.
fn explained(error: zeugma_kernel::Error) -> Error {
    match error.errno() {
        Some(libc::EINVAL | libc::ERANGE | libc::EADDRNOTAVAIL | libc::EOVERFLOW) => Error::Senseless(error),
        _ => error.into(),
    }
}

fn link(kernel: &mut Kernel, name: &IfName) -> Result<LinkState, Error> {
    let state = kernel.link(Side::Container, name)?;
    Ok(state.ok_or_else(|| zeugma_kernel::Error::NoLink { name: name.clone(), side: Side::Container })?)
}

/// Only what will be changed is remembered.
fn backup(config: &Config, state: &LinkState) -> LinkBackup {
    LinkBackup {
        mac: config.mac.and(state.mac),
        mtu: config.mtu.map(|_| state.mtu),
        promisc: config.promisc.map(|_| state.promisc),
        allmulti: config.allmulti.map(|_| state.allmulti),
        tx_queue_len: config.tx_queue_len.map(|_| state.tx_queue_len),
    }
}

/// The steps of an ADD; each is undone when a later one fails.
fn tuned(config: &Config, name: &IfName, before: Option<&LinkState>, kernel: &Kernel) -> Result<Plan, Error> {
    let mut plan = Plan::new();
    for (path, value) in &config.sysctls {
        let set = |value: &str| {
            let sysctl = Sysctl { path: path.clone(), value: value.into(), optional: false };
            Step::SetSysctl(Side::Container, sysctl)
        };
        match before.is_some() || kernel.container_id().is_some() {
            true => match kernel.sysctl(Side::Container, path)? {
                Some(now) => plan.push_with_undo(set(value), set(&now)),
                None => return Err(Error::NoSysctl { path: path.clone() }),
            },
            false => plan.push(set(value)),
        }
    }
    if config.changes_link() {
        let change = LinkChange {
            mac: config.mac,
            mtu: config.mtu,
            promisc: config.promisc,
            allmulti: config.allmulti,
            tx_queue_len: config.tx_queue_len,
            ..LinkChange::default()
        };
        let step = Step::SetLink(Side::Container, name.clone(), change);
        match before {
            Some(state) => plan.push_with_undo(step, restored(name, &backup(config, state))),
            None => plan.push(step),
        }
    }
    Ok(plan)
}

fn restored(name: &IfName, backup: &LinkBackup) -> Step {
    let change = LinkChange {
        mac: backup.mac,
        mtu: backup.mtu,
        promisc: backup.promisc,
        allmulti: backup.allmulti,
        tx_queue_len: backup.tx_queue_len,
        ..LinkChange::default()
    };
    Step::SetLink(Side::Container, name.clone(), change)
}

/// Gives the link its old settings back, if it and its namespace are still there. Sysctls stay, as the
/// reference has it: they go with the namespace.
fn restore(journal: &Journal, request: &Request, entry: &Entry) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(backup) = &entry.record.backup
        && entry.record.netns.as_ref().is_some_and(NetnsRef::is_alive)
    {
        causes.extend(give_back(request, backup));
    }
    causes.extend(journal.remove(entry).err().map(Cause::from));
    causes
}

fn give_back(request: &Request, backup: &LinkBackup) -> Vec<Cause> {
    if *backup != LinkBackup::default()
        && let Some(mut kernel) = request.netns.as_deref().and_then(|path| Kernel::with_container(path).ok())
        && kernel.link(Side::Container, &request.ifname).is_ok_and(|state| state.is_some())
    {
        let plan = Plan::from_iter([restored(&request.ifname, backup)]);
        return kernel.apply_all(&plan).into_iter().map(Cause::from).collect();
    }
    Vec::new()
}

/// No record: the plugin before us may have kept what the link was.
fn restore_unknown(request: &Request) -> Result<(), Error> {
    let path = backup::path(&config::data_dir(&request.conf), &request.attachment());
    let Some(before) = backup::read(&path)? else { return Ok(()) };
    several(give_back(request, &before))?;
    backup::remove(&path)
}

/// The result tells the new Ethernet address and MTU of the container's interface.
fn mend(result: &mut CniResult, config: &Config, name: &IfName) {
    let inside = |sandbox: &Option<String>| sandbox.as_ref().is_some_and(|path| !path.is_empty());
    for interface in &mut result.interfaces {
        if interface.name == name.as_str() && inside(&interface.sandbox) {
            interface.mac = config.mac.or(interface.mac);
            interface.mtu = config.mtu.or(interface.mtu);
        }
    }
}

fn check_link(config: &Config, state: &LinkState) -> Result<(), Error> {
    let wrong = [
        ("mac", config.mac.is_some_and(|mac| state.mac != Some(mac))),
        ("mtu", config.mtu.is_some_and(|mtu| state.mtu != mtu)),
        ("promisc", config.promisc.is_some_and(|on| state.promisc != on)),
        ("allmulti", config.allmulti.is_some_and(|on| state.allmulti != on)),
        ("txQLen", config.tx_queue_len.is_some_and(|length| state.tx_queue_len != length)),
    ];
    match wrong.iter().find(|(_, is_wrong)| *is_wrong) {
        Some((key, _)) => Err(Error::Changed(format!("{key} of the interface"))),
        None => Ok(()),
    }
}

/// Reads a configuration.
pub(crate) fn fuzz(request: &Request) -> Result<(), Error> {
    Config::of(request).map(drop)
}
