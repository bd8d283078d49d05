//! `ptp` joins a container to the host by a veth pair and routes. What an ADD does: plan.rs. User page:
//! docs/plugins/ptp.md.

mod plan;

use serde::Deserialize;
use zeugma_journal::Record;
use zeugma_kernel::Kernel;
use zeugma_model::{AttachmentId, Mac};
use zeugma_plan::{Family, Plan, Side, Step};
use zeugma_protocol::{CniResult, NetConf};
use zeugma_skel::Request;

use crate::interface::addressing::DuplicateDetection;
use crate::interface::{self, Attached, Error, Kind, Place};
use crate::{ipam, shared};

/// The keys as they stand in the configuration; defaults are the reference's.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// Whether packets that leave the network get the host's address. Default false.
    ip_masq: bool,
    /// Accepted as in the reference, `iptables` or `nftables`: both mean zeugma's own table. Default: none.
    ip_masq_backend: Option<String>,
    /// MTU of the veth pair in bytes. Default 0: that of the interface that the default route leaves by.
    mtu: u32,
    /// Whether IPv6 addresses are probed for duplicates before they are used (zeugma's own key). Default false.
    enabledad: bool,
}

/// A point-to-point network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    masquerade: bool,
    /// Bytes; none: the underlay's.
    mtu: Option<u32>,
    duplicate_detection: DuplicateDetection,
}

/// What the plan rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The MTU of the way out.
    underlay_mtu: Option<u32>,
    host_mac: Mac,
    container_mac: Mac,
}

/// The plugin's kind of interface.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ptp;

impl Kind for Ptp {
    type Config = Config;
    type Facts = Facts;
    type Error = Error;
    const NAME: &'static str = "ptp";
    const LINK: &'static str = "veth";

    fn of_network(conf: &NetConf) -> Result<Config, Error> {
        if ipam::type_of(conf).is_none() {
            return Err(Error::Missing("ipam", "a routed interface needs addresses"));
        }
        let raw: Raw = conf.plugin_config()?;
        interface::check_backend(raw.ip_masq_backend.as_deref())?;
        Ok(Config {
            masquerade: raw.ip_masq,
            mtu: (raw.mtu > 0).then_some(raw.mtu),
            duplicate_detection: raw.enabledad.into(),
        })
    }

    fn of(request: &Request) -> Result<Config, Error> {
        Self::of_network(&request.conf)
    }

    fn observe(kernel: &mut Kernel, config: &Config, _: &Request) -> Result<Facts, Error> {
        let underlay_mtu = if config.mtu.is_none() { kernel.underlay_mtu()? } else { None };
        let [host_mac, container_mac] = interface::random_macs()?;
        Ok(Facts { underlay_mtu, host_mac, container_mac })
    }

    fn attached(config: &Config, place: &Place, given: CniResult, facts: &Facts) -> Result<Attached, Error> {
        plan::attached(config, place, given, facts)
    }

    fn detached(id: &AttachmentId, record: &Record) -> Plan {
        let veth = record.host_veth.clone().unwrap_or_else(|| id.host_veth());
        Plan::from_iter([Step::DeleteLink(Side::Host, veth)])
    }

    /// Our veth has a name that we can tell; the reference's is found by the container's end.
    fn detached_unknown(id: &AttachmentId) -> Plan {
        let inside = Step::DeleteLink(Side::Container, id.ifname.clone());
        Plan::from_iter([Step::DeleteLink(Side::Host, id.host_veth()), inside])
    }

    fn check(
        kernel: &mut Kernel,
        config: &Config,
        request: &Request,
        result: &CniResult,
    ) -> Result<(), Error> {
        plan::check(kernel, config, request, result)
    }

    fn ready(kernel: &mut Kernel, config: &Config) -> Result<(), Error> {
        if config.masquerade {
            shared::can_filter(kernel).map_err(|error| Error::not_available(&error))?;
        }
        Ok(())
    }
}

/// The families that a result has addresses of.
fn families(result: &CniResult) -> impl Iterator<Item = Family> {
    Family::ALL
        .into_iter()
        .filter(|family| result.ips.iter().any(|ip| Family::of(ip.address.ip()) == *family))
}
