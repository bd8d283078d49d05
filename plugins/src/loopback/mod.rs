//! `loopback` sets a container's `lo` up. It makes nothing, so DEL and GC have nothing of their own to clear:
//! DEL sets `lo` down as the reference does. User page: docs/plugins/loopback.md.

use zeugma_kernel::Kernel;
use zeugma_model::{IfName, Mac};
use zeugma_plan::{LinkChange, Plan, Side, Step};
use zeugma_protocol::{CniCode, CniResult, Code, Interface, Ip};
use zeugma_skel::{NetworkRequest, Plugin, Request};

use crate::cause::{Cause, from_causes};

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loopback;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Below the plugin.
    #[error(transparent)]
    Cause(#[from] Cause),
    /// CHECK: `lo` is down.
    #[error(
        "lo is down in the container: something set it down after ADD; set it up or add the container again"
    )]
    Down,
}
from_causes!(Error);

impl CniCode for Error {
    fn code(&self) -> Code {
        match self {
            Self::Cause(cause) => cause.code(),
            Self::Down => Code::Plugin(110),
        }
    }
}

fn lo() -> IfName {
    "lo".parse().expect("lo is an interface name")
}

fn set(up: bool) -> Plan {
    Plan::from_iter([Step::SetLink(
        Side::Container,
        lo(),
        LinkChange { up: Some(up), ..LinkChange::default() },
    )])
}

fn container(request: &Request) -> Result<Kernel, Error> {
    let path = request.netns.as_ref().ok_or(zeugma_kernel::Error::NoContainer)?;
    Ok(Kernel::with_container(path)?)
}

impl Plugin for Loopback {
    type Error = Error;
    const NAME: &'static str = "loopback";

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        let mut kernel = container(request)?;
        kernel.apply(&set(true))?;
        match &request.conf.prev_result {
            Some(previous) => Ok(previous.clone()),
            None => result(request, &mut kernel),
        }
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        match container(request) {
            Ok(mut kernel) => Ok(kernel.apply(&set(false))?),
            Err(Error::Cause(Cause::Kernel(
                zeugma_kernel::Error::NoNetns { .. }
                | zeugma_kernel::Error::NotNetns { .. }
                | zeugma_kernel::Error::NoContainer,
            ))) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let state = container(request)?.link(Side::Container, &lo())?;
        if state.is_some_and(|state| state.up) { Ok(()) } else { Err(Error::Down) }
    }

    fn gc(&self, _: &NetworkRequest) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, _: &NetworkRequest) -> Result<(), Error> {
        Ok(())
    }

    fn dry_run(&self, _: &Request) -> Result<String, Error> {
        Ok(set(true).to_string())
    }
}

fn result(request: &Request, kernel: &mut Kernel) -> Result<CniResult, Error> {
    let addresses = kernel.addresses(Side::Container, &lo())?;
    let interface = Interface {
        name: "lo".into(),
        mac: Some(Mac([0; 6])),
        mtu: kernel.link(Side::Container, &lo())?.map(|state| state.mtu),
        sandbox: request.netns.as_ref().map(|path| path.to_string_lossy().into_owned()),
        ..Interface::default()
    };
    let ips =
        addresses.into_iter().map(|address| Ip { address, gateway: None, interface: Some(0) }).collect();
    Ok(CniResult { interfaces: vec![interface], ips, ..CniResult::default() })
}
