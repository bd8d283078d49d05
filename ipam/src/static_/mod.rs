//! `static`: the addresses that the configuration or the runtime names; keeps no state. Options:
//! docs/plugins/static.md.

pub(crate) mod config;
mod error;

use zeugma_protocol::{CniResult, Ip};
use zeugma_skel::{NetworkRequest, Plugin, Request};

use config::{Address, Config};
pub use error::Error;

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Static;

impl Plugin for Static {
    type Error = Error;
    const NAME: &'static str = "static";

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let Config { addresses, routes, dns } = Config::parse(&request.conf, Some(&request.args))?;
        let ip = |Address { address, gateway }| Ip { address, gateway, interface: None };
        Ok(CniResult { interfaces: Vec::new(), ips: addresses.into_iter().map(ip).collect(), routes, dns })
    }

    /// There is nothing to release.
    fn del(&self, _request: &Request) -> Result<(), Error> {
        Ok(())
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::parse(&request.conf, Some(&request.args))?;
        let result = request.conf.prev_result.as_ref().ok_or(Error::NoPrevResult)?;
        match config.addresses.iter().find(|address| !result.ips.iter().any(|ip| address.is(ip))) {
            Some(missing) => {
                Err(Error::Differs { address: missing.address.ip(), ifname: request.ifname.to_string() })
            }
            None => Ok(()),
        }
    }

    /// There is nothing to remove.
    fn gc(&self, _request: &NetworkRequest) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        Config::parse(&request.conf, None).map(drop)
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        let config = Config::parse(&request.conf, Some(&request.args))?;
        let line = |Address { address, gateway }| match gateway {
            Some(gateway) => format!("address {address} gateway {gateway}\n"),
            None => format!("address {address}\n"),
        };
        Ok(config.addresses.into_iter().map(line).collect())
    }
}

impl Address {
    /// Whether the result has it; without a configured gateway any will do.
    fn is(&self, ip: &Ip) -> bool {
        self.address.ip() == ip.address.ip() && self.gateway.is_none_or(|gateway| ip.gateway == Some(gateway))
    }
}

pub(crate) fn fuzz_ipam(conf: &zeugma_protocol::NetConf) {
    use zeugma_protocol::CniCode;
    use zeugma_skel::CniArgs;

    if let Err(error) = Config::parse(conf, Some(&CniArgs::default())) {
        assert!(!error.to_string().is_empty() && error.code().number() > 0);
    }
}

#[cfg(test)]
mod tests;
