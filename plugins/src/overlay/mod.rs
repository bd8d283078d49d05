//! `overlay` joins a container to the part of a network that this host has: the bridge plugin, told what to do by what
//! the agent wrote down. What a state becomes: told.rs. User page: docs/plugins/overlay.md.
//!
//! No agent and no catalogue is asked: routes and tunnels are there, or there is no state.

mod check;
pub(crate) mod config;
mod error;
mod told;

pub use error::Error;

use zeugma_journal::{Journal, Record};
use zeugma_kernel::{Kernel, LinkState};
use zeugma_model::AttachmentId;
use zeugma_plan::{Plan, Step};
use zeugma_protocol::{CniResult, NetConf};
use zeugma_skel::{NetworkRequest, Plugin, Request};
use zeugma_upkeep::overlay as elements;

use crate::bridge::{Bridge, plan::Facts};
use crate::cause::Cause;
use crate::interface::{Attached, Interface, Kind, Place};
use crate::shared;
use config::Config;
use told::Need;
pub(crate) use told::STATE;

/// The plugin.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overlay;

const TOLD: Interface<Part> = Interface(Part);

impl Plugin for Overlay {
    type Error = Error;
    const NAME: &'static str = <Part as Kind>::NAME;

    fn add(&self, request: &Request) -> Result<CniResult, Error> {
        TOLD.add(&told::request(request, Need::State)?)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        TOLD.del(&told::request(request, Need::Nothing)?)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        TOLD.check(&told::request(request, Need::State)?)
    }

    fn gc(&self, request: &NetworkRequest) -> Result<(), Error> {
        TOLD.gc(&told::network_request(request, Need::Nothing)?)
    }

    fn status(&self, request: &NetworkRequest) -> Result<(), Error> {
        let told = told::network_request(request, Need::State).map_err(Error::not_available)?;
        TOLD.status(&told)
    }

    fn dry_run(&self, request: &Request) -> Result<String, Error> {
        TOLD.dry_run(&told::request(request, Need::State)?)
    }
}

/// The plugin's kind of interface: a bridge's, with the elements of the overlay.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part;

impl Kind for Part {
    type Config = Config;
    type Facts = Facts;
    type Error = Error;
    const NAME: &'static str = "overlay";
    const LINK: &'static str = Bridge::LINK;

    fn of_network(conf: &NetConf) -> Result<Config, Error> {
        Ok(Config { bridge: Bridge::of_network(conf)?, state: told::state(conf)? })
    }

    fn of(request: &Request) -> Result<Config, Error> {
        Ok(Config { bridge: Bridge::of(request)?, state: told::state(&request.conf)? })
    }

    fn lock(config: &Config) -> Option<String> {
        Bridge::lock(&config.bridge)
    }

    fn observe(kernel: &mut Kernel, config: &Config, request: &Request) -> Result<Facts, Error> {
        Ok(Bridge::observe(kernel, &config.bridge, request)?)
    }

    fn attached(config: &Config, place: &Place, given: CniResult, facts: &Facts) -> Result<Attached, Error> {
        let mut attached = Bridge::attached(&config.bridge, place, given, facts)?;
        // What seals the network is there before there is anything to be sealed.
        if let Some(state) = &config.state {
            let sealing = Plan::from_iter([Step::ShareElements(elements(state))]);
            attached.links = sealing.then(attached.links);
        }
        attached.record.overlay.clone_from(&config.state);
        Ok(attached)
    }

    fn detached(id: &AttachmentId, record: &Record) -> Plan {
        Bridge::detached(id, record)
    }

    fn detached_unknown(id: &AttachmentId) -> Plan {
        Bridge::detached_unknown(id)
    }

    fn is_ours(inside: &LinkState) -> bool {
        Bridge::is_ours(inside)
    }

    fn check(
        kernel: &mut Kernel,
        config: &Config,
        request: &Request,
        result: &CniResult,
    ) -> Result<(), Error> {
        Bridge::check(kernel, &config.bridge, request, result)?;
        check::check(kernel, config, request)
    }

    fn ready(kernel: &mut Kernel, config: &Config) -> Result<(), Error> {
        Bridge::ready(kernel, &config.bridge)?;
        shared::can_filter(kernel).map_err(Error::not_available)?;
        check::tunnel(kernel, config).map_err(Error::not_available)
    }

    fn retire(kernel: &mut Kernel, journal: &Journal, config: &Config) -> Vec<Cause> {
        Bridge::retire(kernel, journal, &config.bridge)
    }

    fn abandoned(kernel: &mut Kernel, config: &Config, facts: &Facts) {
        Bridge::abandoned(kernel, &config.bridge, facts);
    }

    fn explained(error: zeugma_kernel::Error, request: &Request, config: &Config) -> Error {
        Bridge::explained(error, request, &config.bridge).into()
    }
}
