//! `macvlan` gives the container an Ethernet address of its own on the wire of a host interface. User page:
//! docs/plugins/macvlan.md.

use serde::Deserialize;
use zeugma_journal::Record;
use zeugma_kernel::Kernel;
use zeugma_model::{AttachmentId, Mac};
use zeugma_plan::{MacvlanMode, Plan, Sharing, Side};
use zeugma_protocol::{CniResult, NetConf};
use zeugma_skel::Request;

use crate::interface::{self, Attached, Child, Error, Kind, Parent, ParentName, Place};

/// The keys as they stand in the configuration; defaults are the reference's.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// The host's interface whose wire is shared. Default: the one that the default route leaves by.
    master: Option<String>,
    /// How the macvlans of one master hear one another: `bridge` (default), `private`, `vepa` or `passthru`.
    mode: Option<String>,
    /// MTU in bytes, at most the master's. Default 0: the master's.
    mtu: u32,
    /// Whether `master` is looked for in the container's namespace, where an earlier plugin put it. Default false.
    link_in_container: bool,
    /// Packets in the queue of received broadcasts. Default 0: the kernel's 1000.
    bcqueuelen: u32,
    /// Whether IPv6 addresses are probed for duplicates before they are used (zeugma's own key). Default false.
    enabledad: bool,
}

/// A macvlan network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    parent: ParentName,
    side: Side,
    mode: MacvlanMode,
    broadcast_queue: Option<u32>,
    /// Bytes; none: the parent's.
    mtu: Option<u32>,
    setup: interface::addressing::DuplicateDetection,
    /// The container's address when the runtime asks for one.
    mac: Option<Mac>,
}

/// What the plan rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    parent: Parent,
    mac: Mac,
}

/// The plugin's kind of interface.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Macvlan;

impl Kind for Macvlan {
    type Config = Config;
    type Facts = Facts;
    type Error = Error;
    const NAME: &'static str = "macvlan";
    const LINK: &'static str = "macvlan";

    fn of_network(conf: &NetConf) -> Result<Config, Error> {
        let raw: Raw = conf.plugin_config()?;
        Ok(Config {
            parent: ParentName::parse(raw.master.as_deref())?,
            side: interface::parent_side(raw.link_in_container),
            mode: mode(raw.mode.as_deref().unwrap_or_default())?,
            broadcast_queue: (raw.bcqueuelen > 0).then_some(raw.bcqueuelen),
            mtu: (raw.mtu > 0).then_some(raw.mtu),
            setup: raw.enabledad.into(),
            mac: None,
        })
    }

    fn of(request: &Request) -> Result<Config, Error> {
        Ok(Config { mac: interface::mac(request)?, ..Self::of_network(&request.conf)? })
    }

    fn observe(kernel: &mut Kernel, config: &Config, _: &Request) -> Result<Facts, Error> {
        let parent = Parent::find(kernel, config.side, &config.parent)?;
        let [mac] = interface::random_macs()?;
        // In passthru mode the child takes the parent's address over.
        let inherits = config.mode == MacvlanMode::Passthru;
        Ok(Facts { mac: parent.state.mac.filter(|_| inherits).unwrap_or(mac), parent })
    }

    fn attached(config: &Config, place: &Place, given: CniResult, facts: &Facts) -> Result<Attached, Error> {
        let sharing = Sharing::Macvlan { mode: config.mode, broadcast_queue: config.broadcast_queue };
        let mac = Some(config.mac.unwrap_or(facts.mac));
        Child { parent: &facts.parent, sharing, mac, mtu: config.mtu, duplicate_detection: config.setup }
            .attached(place, given)
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
}

fn mode(name: &str) -> Result<MacvlanMode, Error> {
    match name {
        "" | "bridge" => Ok(MacvlanMode::Bridge),
        "private" => Ok(MacvlanMode::Private),
        "vepa" => Ok(MacvlanMode::Vepa),
        "passthru" => Ok(MacvlanMode::Passthru),
        other => Err(Error::Value {
            key: "mode",
            value: other.into(),
            allowed: "\"bridge\", \"private\", \"vepa\" or \"passthru\"",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::testing::{planned, refused};

    #[test]
    fn a_macvlan_is_born_in_the_container() {
        insta::assert_snapshot!(planned::<Macvlan>(r#"{"master": "eth0", "bcqueuelen": 50}"#, |config| {
            Macvlan::attached(config, &interface::testing::place(), interface::testing::given(), &facts())
        }));
    }

    #[test]
    fn no_ipam_means_a_plain_layer_2_link() {
        insta::assert_snapshot!(planned::<Macvlan>(
            r#"{"master": "eth0", "mode": "private", "mtu": 1400}"#,
            |config| {
                Macvlan::attached(config, &interface::testing::place(), CniResult::default(), &facts())
            }
        ));
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_key() {
        refused::<Macvlan>(
            r#"{"mode": "macsec"}"#,
            "invalid mode \"macsec\": use \"bridge\", \"private\", \"vepa\" or \"passthru\"",
        );
        refused::<Macvlan>(r#"{"master": "not/a/name"}"#, "invalid \"master\": ");
    }

    fn facts() -> Facts {
        Facts { parent: interface::testing::parent(), mac: Mac([2, 0, 0, 0, 0, 9]) }
    }
}
