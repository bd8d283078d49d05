//! The verbs of `host-device`: those of every interface, but for what a device that is moved needs besides.

use zeugma_journal::Lock;
use zeugma_protocol::CniResult;
use zeugma_skel::{NetworkRequest, Plugin, Request};

use super::{HostDevice, on_host, unrecorded};
use crate::cause::Cause;
use crate::interface::{Error, Interface, Kind};

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Verbs;

const COMMON: Interface<HostDevice> = Interface(HostDevice);

impl Plugin for Verbs {
    type Error = Error;
    const NAME: &'static str = <HostDevice as Kind>::NAME;

    /// Of several ADDs for one device at once, the first has it; the others find that it is away.
    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let name = on_host(request)?;
        let _alone =
            name.map(|name| Lock::transient(&format!("device-{name}"))).transpose().map_err(Cause::from)?;
        COMMON.add(request)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let brought_back = unrecorded::bring_back(request);
        COMMON.del(request)?;
        Ok(brought_back?)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        COMMON.check(request)
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        COMMON.gc(request)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        COMMON.status(request)
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        COMMON.dry_run(request)
    }
}
