//! `host-local`: addresses out of ranges, remembered on this host's disk. Options: docs/plugins/host-local.md.
//!
//! Which address is next: `alloc`. The files: `store`.

pub(crate) mod config;
mod error;
mod leasing;
mod resolv_conf;

use std::net::IpAddr;
use std::path::PathBuf;

use zeugma_protocol::{CniResult, Dns, Ip, NetConf};
use zeugma_skel::{NetworkRequest, Plugin, Request};

use crate::alloc::{Candidate, RangeSet};
use crate::store::Store;
use config::Config;
use leasing::{holdings, lease_all, wanted};

pub use error::Error;
pub(crate) use resolv_conf::parse_resolv_conf;

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostLocal;

impl HostLocal {
    /// What ADD would give, without taking it and without privileges.
    ///
    /// # Errors
    /// Those of ADD.
    pub fn peek(&self, request: &Request) -> Result<CniResult, Error> {
        Lessor::of_this_host().peek(request)
    }

    /// Every address of the network with the container, and the interface where that is known, that has it.
    ///
    /// # Errors
    /// When the lease directory cannot be read.
    pub fn leases(&self, conf: &NetConf) -> Result<Vec<(IpAddr, String, Option<String>)>, Error> {
        let Some(leases) = Lessor::of_this_host().store(conf)?.lock()? else { return Ok(Vec::new()) };
        let all = leases.all()?;
        leases.finish();
        Ok(all.into_iter().map(|(address, owner)| (address, owner.container, owner.ifname)).collect())
    }
}

impl Plugin for HostLocal {
    type Error = Error;
    const NAME: &'static str = "host-local";

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        Lessor::of_this_host().add(request)
    }
    fn del(&self, request: &Request) -> Result<(), Error> {
        Lessor::of_this_host().del(request)
    }
    fn check(&self, request: &Request) -> Result<(), Error> {
        Lessor::of_this_host().check(request)
    }
    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        Lessor::of_this_host().gc(request)
    }
    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        Lessor::of_this_host().status(request)
    }
    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        Lessor::of_this_host().dry_run(request)
    }
}

/// The verbs, told where the run directory is.
struct Lessor {
    run_dir: PathBuf,
}

impl Lessor {
    fn of_this_host() -> Self {
        Self { run_dir: zeugma_journal::run_dir() }
    }

    fn store(&self, conf: &NetConf) -> Result<Store, Error> {
        Ok(Store::new(&conf.name, &Config::data_dir(conf)?, &self.run_dir))
    }

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let config = Config::parse(&request.conf, Some(&request.args))?;
        let wanted = wanted(&config)?;
        let dns = read_dns(&config)?;
        let mut leases = self.store(&request.conf)?.lock_or_create()?;
        let given = lease_all(&mut leases, &request.attachment(), &wanted);
        leases.finish();
        Ok(result(config, dns, given?))
    }

    /// Releases whatever the attachment has, in these ranges or not; the ranges need not even be valid any more.
    fn del(&self, request: &Request) -> Result<(), Error> {
        let Some(mut leases) = self.store(&request.conf)?.lock()? else {
            return Ok(());
        };
        let (owner, has) = holdings(&mut leases, &request.attachment())?;
        let released = leases.release(&has);
        if !has.is_empty() {
            leases.note(&owner, &[]);
        }
        leases.finish();
        Ok(released?)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let store = self.store(&request.conf)?;
        let attachment = request.attachment();
        if let Some(mut leases) = store.lock()? {
            let (_, has) = holdings(&mut leases, &attachment)?;
            leases.finish();
            if !has.is_empty() {
                return Ok(());
            }
        }
        Err(Error::NoLease { attachment: attachment.to_string(), directory: store.directory().to_path_buf() })
    }

    /// Without a list of valid attachments nothing is removed. Goes on after an error and reports the first.
    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        let Some(valid) = &request.conf.valid_attachments else {
            return Ok(());
        };
        let Some(mut leases) = self.store(&request.conf)?.lock()? else {
            return Ok(());
        };
        let mut outcome = Ok(());
        for (address, owner) in leases.all()? {
            if !valid.iter().any(|(container, ifname)| owner.is(container, ifname)) {
                outcome = outcome.and(leases.release(&[address]));
                leases.note(&owner, &[]);
            }
        }
        leases.finish();
        Ok(outcome?)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        let config = Config::parse(&request.conf, None)?;
        read_dns(&config)?;
        let store = self.store(&request.conf)?;
        let taken = store.taken()?;
        let is_full =
            |ranges: &&RangeSet| ranges.first_free(None, |address| taken.contains(&address)).is_none();
        match config.sets.iter().find(is_full).map(RangeSet::to_string) {
            Some(ranges) => Err(Error::NotAvailable { ranges, directory: store.directory().to_path_buf() }),
            None => Ok(()),
        }
    }

    /// What ADD would give, without taking it.
    fn peek(&self, request: &Request) -> Result<CniResult, Error> {
        let config = Config::parse(&request.conf, Some(&request.args))?;
        let dns = read_dns(&config)?;
        let store = self.store(&request.conf)?;
        let taken = store.taken()?;
        let given: Result<Vec<Candidate>, Error> =
            wanted(&config)?.iter().map(|wanted| wanted.peek(&store, &taken)).collect();
        Ok(result(config, dns, given?))
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        let directory = self.store(&request.conf)?.directory().to_path_buf();
        let line = |ip: &Ip| {
            let gateway = ip.gateway.map(|gateway| format!(" gateway {gateway}")).unwrap_or_default();
            format!("host: lease {}{gateway} in {}\n", ip.address, directory.display())
        };
        Ok(self.peek(request)?.ips.iter().map(line).collect())
    }
}

fn read_dns(config: &Config) -> Result<Dns, Error> {
    let Some(path) = &config.resolv_conf else {
        return Ok(Dns::default());
    };
    let text = std::fs::read(path).map_err(|source| Error::ResolvConf { path: path.clone(), source })?;
    Ok(parse_resolv_conf(&String::from_utf8_lossy(&text)))
}

/// Addresses without an interface: the calling plugin knows which one gets them.
fn result(config: Config, dns: Dns, given: Vec<Candidate>) -> CniResult {
    let ip = |Candidate { address, gateway }| Ip { address, gateway: Some(gateway), interface: None };
    CniResult { interfaces: Vec::new(), ips: given.into_iter().map(ip).collect(), routes: config.routes, dns }
}

pub(crate) fn fuzz_ipam(conf: &NetConf) {
    use zeugma_protocol::CniCode;
    use zeugma_skel::CniArgs;

    let _ = Config::data_dir(conf);
    let config = match Config::parse(conf, Some(&CniArgs::default())) {
        Ok(config) => config,
        Err(error) => return assert!(!error.to_string().is_empty() && error.code().number() > 0),
    };
    let _ = wanted(&config);
    for set in &config.sets {
        let (mut last, mut seen) = (None, Vec::new());
        for _ in 0..4 {
            let Some(candidate) = set.first_free(last, |address| seen.contains(&address)) else { break };
            let address = candidate.address.ip();
            assert!(set.range_for(address).is_some() && address != candidate.gateway, "{set}: {address}");
            seen.push(address);
            last = Some(address);
        }
    }
}

#[cfg(test)]
mod tests;
