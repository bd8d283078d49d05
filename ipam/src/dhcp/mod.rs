//! `dhcp`: addresses from a DHCP server of the container's own network. Options: docs/plugins/dhcp.md.
//!
//! The plugin only asks the daemon (`zeugma dhcp`), which speaks DHCP and keeps the leases: `protocol` is what the two
//! say to one another, `place` where the leases are written down.

pub(crate) mod config;
mod daemon;
mod error;
mod place;
pub mod protocol;

use std::time::Duration;

use zeugma_protocol::CniResult;
use zeugma_skel::{NetworkRequest, Plugin, Request};

use config::{Config, socket};
use daemon::ask;
pub use error::Error;
pub use place::{DEFAULT_SOCKET, LeaseFiles};
use protocol::{Answer, Ask};

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dhcp;

/// How long the daemon may take for an address; it gives up itself long before, after `--resendtimeout`.
const FOR_AN_ADDRESS: Duration = Duration::from_secs(600);
/// How long it may take for everything else.
const FOR_AN_ANSWER: Duration = Duration::from_secs(30);

impl Plugin for Dhcp {
    type Error = Error;
    const NAME: &'static str = "dhcp";

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let Config { socket, provide, request: wanted, priority } =
            Config::parse(&request.conf, Some(&request.args))?;
        let netns = request.netns.as_ref().ok_or(Error::NoNetns)?;
        // The daemon runs in another directory.
        let netns = std::path::absolute(netns).unwrap_or_else(|_| netns.clone());
        let attachment = request.attachment();
        let question = Ask::Acquire { attachment, netns, provide, request: wanted };
        let mut result = lease(ask(&socket, &question, FOR_AN_ADDRESS)?)?;
        result.routes.iter_mut().for_each(|route| route.priority = priority.or(route.priority));
        Ok(result)
    }

    /// Without a daemon it fails only where there is something to give back: the runtime then asks again.
    fn del(&self, request: &Request) -> Result<(), Error> {
        let (socket, attachment) = (socket(&request.conf)?, request.attachment());
        match ask(&socket, &Ask::Release { attachment: attachment.clone() }, FOR_AN_ANSWER) {
            Err(Error::NoDaemon { .. }) if !files(&socket).has(&attachment) => Ok(()),
            answer => done(answer?),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let socket = Config::parse(&request.conf, Some(&request.args))?.socket;
        let attachment = request.attachment();
        let held = lease(ask(&socket, &Ask::Confirm { attachment }, FOR_AN_ANSWER)?)?;
        let is_in = |result: &CniResult| {
            held.ips.iter().all(|held| result.ips.iter().any(|ip| ip.address == held.address))
        };
        match &request.conf.prev_result {
            Some(result) if !is_in(result) => {
                let held = held.ips.first().map(|ip| ip.address.to_string()).unwrap_or_default();
                Err(Error::Differs { held, ifname: request.ifname.to_string() })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Without a list of valid attachments nothing is released.
    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        let Some(valid) = request.conf.valid_attachments.clone() else { return Ok(()) };
        let (socket, network) = (socket(&request.conf)?, request.conf.name.clone());
        let stale = files(&socket).of_network(&network).into_iter().any(|held| {
            !valid.iter().any(|(container, ifname)| held.container == *container && held.ifname == *ifname)
        });
        match ask(&socket, &Ask::Retain { network, valid }, FOR_AN_ANSWER) {
            Err(Error::NoDaemon { .. }) if !stale => Ok(()),
            answer => done(answer?),
        }
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        let socket = Config::parse(&request.conf, None)?.socket;
        match ask(&socket, &Ask::Status, FOR_AN_ANSWER) {
            Err(error) => Err(Error::NotAvailable(Box::new(error))),
            Ok(answer) => done(answer),
        }
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        let socket = Config::parse(&request.conf, Some(&request.args))?.socket;
        Ok(format!("container: lease an address for {} by DHCP ({})\n", request.ifname, socket.display()))
    }
}

fn files(socket: &std::path::Path) -> LeaseFiles {
    LeaseFiles::new(&zeugma_journal::run_dir(), socket)
}

fn lease(answer: Answer) -> Result<CniResult, Error> {
    match answer {
        Answer::Lease { result } => CniResult::from_json(&result, protocol::RESULT).map_err(Error::Result),
        Answer::Failed { failure, message } => Err(Error::Refused { failure, message }),
        Answer::Done => Err(Error::Strange { said: "done, where a lease was asked for".into() }),
    }
}

fn done(answer: Answer) -> Result<(), Error> {
    match answer {
        Answer::Done | Answer::Lease { .. } => Ok(()),
        Answer::Failed { failure, message } => Err(Error::Refused { failure, message }),
    }
}

pub(crate) fn fuzz_ipam(ipam: &serde_json::Map<String, serde_json::Value>) {
    let _ = config::of_ipam(ipam);
}

#[cfg(test)]
mod tests;
