//! `ipvlan` gives the container IP addresses of its own behind the Ethernet address of a host interface. User page:
//! docs/plugins/ipvlan.md.

mod agreed;

use serde::Deserialize;
use zeugma_journal::{Journal, Record};
use zeugma_kernel::Kernel;
use zeugma_model::AttachmentId;
use zeugma_plan::{IpvlanMode, Plan, Sharing, Side};
use zeugma_protocol::{CniResult, NetConf};
use zeugma_skel::Request;

use crate::cause::Cause;
use crate::interface::addressing::DuplicateDetection;
use crate::interface::{self, Attached, Child, Error, Kind, Parent, ParentName, Place};
use crate::ipam;

/// The keys as they stand in the configuration; defaults are the reference's.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// The host's interface whose wire is shared. Default: the single interface of `prevResult`, or without one
    /// the interface that the default route leaves by.
    master: Option<String>,
    /// Where packets are switched or routed: `l2` (default), `l3` or `l3s`.
    mode: Option<String>,
    /// MTU in bytes, at most the master's. Default 0: the master's.
    mtu: u32,
    /// Whether `master` is looked for in the container's namespace, where an earlier plugin put it. Default false.
    link_in_container: bool,
    /// Whether IPv6 addresses are probed for duplicates before they are used (zeugma's own key). Default false.
    enabledad: bool,
}

/// An ipvlan network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    parent: ParentName,
    side: Side,
    mode: IpvlanMode,
    /// Bytes; none: the parent's.
    mtu: Option<u32>,
    duplicate_detection: DuplicateDetection,
}

/// The plugin's kind of interface.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ipvlan;

impl Kind for Ipvlan {
    type Config = Config;
    type Facts = Parent;
    type Error = Error;
    const NAME: &'static str = "ipvlan";
    const LINK: &'static str = "ipvlan";

    fn of_network(conf: &NetConf) -> Result<Config, Error> {
        let raw: Raw = conf.plugin_config()?;
        Ok(Config {
            parent: ParentName::parse(raw.master.as_deref())?,
            side: interface::parent_side(raw.link_in_container),
            mode: mode(raw.mode.as_deref().unwrap_or_default())?,
            mtu: (raw.mtu > 0).then_some(raw.mtu),
            duplicate_detection: raw.enabledad.into(),
        })
    }

    fn of(request: &Request) -> Result<Config, Error> {
        Self::of_network(&request.conf)
    }

    fn observe(kernel: &mut Kernel, config: &Config, request: &Request) -> Result<Parent, Error> {
        let name = config.parent.clone().or_previous(request.conf.prev_result.as_ref())?;
        Parent::find(kernel, config.side, &name)
    }

    fn attached(
        config: &Config,
        place: &Place,
        given: CniResult,
        parent: &Parent,
    ) -> Result<Attached, Error> {
        let sharing = Sharing::Ipvlan { mode: config.mode };
        let Config { mtu, duplicate_detection, .. } = *config;
        // It has its parent's Ethernet address, and no choice.
        let mut attached =
            Child { parent, sharing, mac: None, mtu, duplicate_detection }.attached(place, given)?;
        attached.result.interfaces.iter_mut().for_each(|interface| interface.mac = parent.state.mac);
        Ok(attached)
    }

    fn detached(id: &AttachmentId, _: &Record) -> Plan {
        interface::without_child(id)
    }

    fn check(kernel: &mut Kernel, config: &Config, _: &Request, _: &CniResult) -> Result<(), Error> {
        match config.parent {
            ParentName::Named(_) => interface::check::parent(kernel, config.side, &config.parent),
            // The parent came from the plugin before or from a route that may have changed since.
            ParentName::DefaultRoute => Ok(()),
        }
    }

    fn ready(kernel: &mut Kernel, config: &Config) -> Result<(), Error> {
        match config.parent {
            ParentName::Named(_) => interface::ready(kernel, config.side, &config.parent),
            ParentName::DefaultRoute => Ok(()),
        }
    }

    fn agree(config: &Config, parent: &Parent) -> Result<(), Error> {
        match parent.side {
            Side::Host => agreed::agree(&parent.name, config.mode),
            Side::Container => Ok(()),
        }
    }

    fn retire(_: &mut Kernel, journal: &Journal, config: &Config) -> Vec<Cause> {
        match &config.parent {
            ParentName::Named(name) => agreed::retire(journal, name).err().into_iter().collect(),
            ParentName::DefaultRoute => Vec::new(),
        }
    }

    /// Behind another plugin it takes the addresses that this one gave.
    fn inherited(request: &Request) -> Option<CniResult> {
        let previous = request.conf.prev_result.as_ref()?;
        (ipam::type_of(&request.conf).is_none() && !previous.ips.is_empty()).then(|| previous.clone())
    }
}

fn mode(name: &str) -> Result<IpvlanMode, Error> {
    match name {
        "" | "l2" => Ok(IpvlanMode::L2),
        "l3" => Ok(IpvlanMode::L3),
        "l3s" => Ok(IpvlanMode::L3s),
        other => Err(Error::Value { key: "mode", value: other.into(), allowed: "\"l2\", \"l3\" or \"l3s\"" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::testing::{self, planned, refused};

    #[test]
    fn an_ipvlan_has_no_ethernet_address_of_its_own() {
        insta::assert_snapshot!(planned::<Ipvlan>(r#"{"master": "eth0", "mode": "l3"}"#, |config| {
            Ipvlan::attached(config, &testing::place(), testing::given(), &testing::parent())
        }));
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_key() {
        refused::<Ipvlan>(r#"{"mode": "L4"}"#, "invalid mode \"L4\": use \"l2\", \"l3\" or \"l3s\"");
    }
}
