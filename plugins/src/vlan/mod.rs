//! `vlan` puts the container into an 802.1Q VLAN on a host interface. User page: docs/plugins/vlan.md.

use serde::Deserialize;
use zeugma_journal::Record;
use zeugma_kernel::Kernel;
use zeugma_model::AttachmentId;
use zeugma_plan::{Plan, Sharing, Side};
use zeugma_protocol::{CniResult, NetConf};
use zeugma_skel::Request;

use crate::interface::addressing::DuplicateDetection;
use crate::interface::{self, Attached, Child, Error, Kind, Parent, ParentName, Place};

/// The keys as they stand in the configuration; defaults are the reference's.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// The host's interface that carries the VLAN. Required.
    master: Option<String>,
    /// The VLAN's number, 0 to 4094; 0 only sets a priority. Default 0.
    vlan_id: i64,
    /// MTU in bytes, at most the master's. Default 0: the master's.
    mtu: u32,
    /// Whether `master` is looked for in the container's namespace, where an earlier plugin put it. Default false.
    link_in_container: bool,
    /// Whether IPv6 addresses are probed for duplicates before they are used (zeugma's own key). Default false.
    enabledad: bool,
}

/// A VLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    parent: ParentName,
    side: Side,
    id: u16,
    /// Bytes; none: the parent's.
    mtu: Option<u32>,
    duplicate_detection: DuplicateDetection,
}

/// The plugin's kind of interface.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Vlan;

impl Kind for Vlan {
    type Config = Config;
    type Facts = Parent;
    type Error = Error;
    const NAME: &'static str = "vlan";
    const LINK: &'static str = "vlan";

    fn of_network(conf: &NetConf) -> Result<Config, Error> {
        let raw: Raw = conf.plugin_config()?;
        let parent = ParentName::parse(raw.master.as_deref())?;
        if parent == ParentName::DefaultRoute {
            return Err(Error::Missing("master", "name the interface that carries the VLAN"));
        }
        Ok(Config {
            parent,
            side: interface::parent_side(raw.link_in_container),
            id: id(raw.vlan_id)?,
            mtu: (raw.mtu > 0).then_some(raw.mtu),
            duplicate_detection: raw.enabledad.into(),
        })
    }

    fn of(request: &Request) -> Result<Config, Error> {
        Self::of_network(&request.conf)
    }

    fn observe(kernel: &mut Kernel, config: &Config, _: &Request) -> Result<Parent, Error> {
        Parent::find(kernel, config.side, &config.parent)
    }

    fn attached(
        config: &Config,
        place: &Place,
        given: CniResult,
        parent: &Parent,
    ) -> Result<Attached, Error> {
        let Config { id, mtu, duplicate_detection, .. } = *config;
        let sharing = Sharing::Vlan { id };
        let mut attached =
            Child { parent, sharing, mac: None, mtu, duplicate_detection }.attached(place, given)?;
        // The kernel gives it its parent's Ethernet address.
        attached.result.interfaces.iter_mut().for_each(|interface| interface.mac = parent.state.mac);
        Ok(attached)
    }

    fn detached(id: &AttachmentId, _: &Record) -> Plan {
        interface::without_child(id)
    }

    fn check(kernel: &mut Kernel, config: &Config, _: &Request, _: &CniResult) -> Result<(), Error> {
        interface::check::parent(kernel, config.side, &config.parent)
    }

    fn ready(kernel: &mut Kernel, config: &Config) -> Result<(), Error> {
        interface::ready(kernel, config.side, &config.parent)
    }

    /// The kernel's EEXIST at the link itself: on the host nobody else has the name that it is made under, so the VLAN
    /// is what is there already; in the container the kernel says which of the two it is.
    fn explained(error: zeugma_kernel::Error, request: &Request, config: &Config) -> Error {
        match (&error, &config.parent) {
            (zeugma_kernel::Error::Refused { step, refusal }, ParentName::Named(master))
                if refusal.errno == libc::EEXIST
                    && step.contains(" type vlan ")
                    && (config.side == Side::Host
                        || refusal.reason.as_ref().is_some_and(|reason| reason.contains("VLAN"))) =>
            {
                Error::VlanTaken { master: master.to_string(), id: config.id }
            }
            _ => Error::refused(error, Self::LINK, &request.ifname),
        }
    }
}

fn id(number: i64) -> Result<u16, Error> {
    const MOST: u16 = 4094;
    let id = u16::try_from(number).ok().filter(|id| *id <= MOST);
    id.ok_or_else(|| Error::Value { key: "vlanId", value: number.to_string(), allowed: "0 to 4094" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::testing::{self, planned, refused};

    #[test]
    fn a_vlan_is_born_in_the_container() {
        insta::assert_snapshot!(planned::<Vlan>(r#"{"master": "eth0", "vlanId": 5}"#, |config| {
            Vlan::attached(config, &testing::place(), testing::given(), &testing::parent())
        }));
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_key() {
        refused::<Vlan>(r#"{"master": "eth0", "vlanId": 4095}"#, "invalid vlanId \"4095\": use 0 to 4094");
        refused::<Vlan>(
            r#"{"vlanId": 5}"#,
            "\"master\" is missing: name the interface that carries the VLAN",
        );
    }
}
