//! `tap` gives the container a TAP device, for a virtual machine or a VPN in it. User page: docs/plugins/tap.md.

use serde::Deserialize;
use zeugma_journal::Record;
use zeugma_kernel::Kernel;
use zeugma_model::{AttachmentId, IfName, Mac};
use zeugma_plan::{LinkChange, Master, Plan, Side, Step, Tap as Device};
use zeugma_protocol::{CniResult, NetConf};
use zeugma_skel::Request;

use crate::interface::addressing::{self, DuplicateDetection, Setup};
use crate::interface::{self, Attached, Error, Kind, Place};

/// The keys as they stand in the configuration; defaults are the reference's.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// Whether the device can be opened more than once, a queue each. Default false.
    multi_queue: bool,
    /// MTU in bytes. Default 0: the kernel's 1500.
    mtu: u32,
    /// MAC address, unless the runtime asks for one. Default: random.
    mac: Option<String>,
    /// The number of the user who may open the device, besides root. Default: any, if they are in `group`.
    owner: Option<u32>,
    /// The number of the group whose members may open the device; with `owner`, one has to be both. Default: any.
    group: Option<u32>,
    /// The SELinux label of the device, such as `system_u:system_r:container_t:s0`. Default: the plugin's own.
    selinux_context: Option<String>,
    /// The bridge in the container's namespace that the device becomes a port of. Default: none.
    bridge: Option<String>,
    /// Whether IPv6 addresses are probed for duplicates before they are used (zeugma's own key). Default false.
    enabledad: bool,
}

/// A network of TAP devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    multi_queue: bool,
    /// Bytes; none: the kernel's.
    mtu: Option<u32>,
    mac: Option<Mac>,
    owner: Option<u32>,
    group: Option<u32>,
    selinux_context: Option<String>,
    bridge: Option<IfName>,
    duplicate_detection: DuplicateDetection,
}

/// The plugin's kind of interface.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tap;

impl Kind for Tap {
    type Config = Config;
    /// The address of a device that nobody asked one for.
    type Facts = Mac;
    type Error = Error;
    const NAME: &'static str = "tap";
    const LINK: &'static str = "tun";

    fn of_network(conf: &NetConf) -> Result<Config, Error> {
        let raw: Raw = conf.plugin_config()?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Config {
            multi_queue: raw.multi_queue,
            mtu: (raw.mtu > 0).then_some(raw.mtu),
            mac: given(raw.mac).map(|mac| mac.parse().map_err(Error::Mac)).transpose()?,
            owner: raw.owner.map(|id| number("owner", id)).transpose()?,
            group: raw.group.map(|id| number("group", id)).transpose()?,
            selinux_context: given(raw.selinux_context),
            bridge: given(raw.bridge).map(bridge_name).transpose()?,
            duplicate_detection: raw.enabledad.into(),
        })
    }

    fn of(request: &Request) -> Result<Config, Error> {
        let network = Self::of_network(&request.conf)?;
        Ok(Config { mac: interface::mac(request)?.or(network.mac), ..network })
    }

    fn observe(kernel: &mut Kernel, config: &Config, request: &Request) -> Result<Mac, Error> {
        interface::must_be_free(kernel, &request.ifname)?;
        if let Some(bridge) = config.bridge.as_ref().filter(|_| kernel.container_id().is_some()) {
            let found = kernel.link(Side::Container, bridge)?;
            found.filter(|state| state.kind == "bridge").ok_or_else(|| Error::NoBridge(bridge.clone()))?;
        }
        let [mac] = interface::random_macs()?;
        Ok(mac)
    }

    fn attached(config: &Config, place: &Place, given: CniResult, fresh: &Mac) -> Result<Attached, Error> {
        /// What the kernel gives every TAP device.
        const MTU: u32 = 1500;
        addressing::check_mtu(config.mtu, &given)?;
        let (name, mac) = (place.ifname(), config.mac.unwrap_or(*fresh));
        let change = LinkChange {
            alias: Some(place.attachment.alias()),
            mtu: config.mtu,
            mac: Some(mac),
            master: config.bridge.clone().map(Master::Link),
            ..LinkChange::default()
        };
        let mut addresses = Plan::new();
        let setup = Setup { duplicate_detection: config.duplicate_detection, ..Setup::default() };
        addressing::steps(&mut addresses, name, &given, &setup)?;
        let interface = addressing::in_container(place, Some(mac), Some(config.mtu.unwrap_or(MTU)));
        Ok(Attached {
            links: Plan::from_iter([
                Step::CreateTap(device(config, name)),
                Step::SetLink(Side::Container, name.clone(), change),
            ]),
            addresses,
            record: interface::record(place, Some(mac), &given),
            result: addressing::result(given, vec![interface], 0),
        })
    }

    fn detached(id: &AttachmentId, _: &Record) -> Plan {
        interface::without_container_link(id)
    }

    fn check(kernel: &mut Kernel, config: &Config, request: &Request, _: &CniResult) -> Result<(), Error> {
        let Some(bridge) = &config.bridge else { return Ok(()) };
        let port = interface::check::link(kernel, Side::Container, &request.ifname)?;
        let master = kernel.link(Side::Container, bridge)?;
        if master.is_some_and(|master| port.master == Some(master.index)) {
            return Ok(());
        }
        Err(Error::changed(format!("{} is no port of the bridge {bridge} in the container", request.ifname)))
    }

    fn ready(_: &mut Kernel, _: &Config) -> Result<(), Error> {
        match zeugma_kernel::can_make_taps() {
            true => Ok(()),
            false => Err(Error::not_available(&Error::no_links(Self::LINK))),
        }
    }

    fn explained(error: zeugma_kernel::Error, request: &Request, _: &Config) -> Error {
        let by_ioctl = matches!(error, zeugma_kernel::Error::System { .. });
        match error.errno().filter(|_| by_ioctl) {
            Some(libc::EEXIST) => Error::InterfaceExists(request.ifname.clone()),
            Some(libc::ENODEV | libc::ENXIO) => Error::no_links(Self::LINK),
            _ => Error::refused(error, Self::LINK, &request.ifname),
        }
    }
}

/// The number of a user or a group; the greatest means nobody to the kernel.
fn number(key: &'static str, id: u32) -> Result<u32, Error> {
    if id < u32::MAX {
        return Ok(id);
    }
    Err(Error::Value { key, value: id.to_string(), allowed: "a number from 0 to 4294967294" })
}

fn bridge_name(text: String) -> Result<IfName, Error> {
    text.parse().map_err(|_| Error::Value { key: "bridge", value: text, allowed: "the name of an interface" })
}

fn device(config: &Config, name: &IfName) -> Device {
    Device {
        name: name.clone(),
        multi_queue: config.multi_queue,
        owner: config.owner,
        group: config.group,
        selinux_context: config.selinux_context.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::testing::{self, planned, refused};

    fn plan(keys: &str, given: CniResult) -> String {
        planned::<Tap>(keys, |config| {
            Tap::attached(config, &testing::place(), given, &Mac([2, 0, 0, 0, 0, 9]))
        })
    }

    #[test]
    fn a_tap_is_made_in_the_container() {
        insta::assert_snapshot!(plan("{}", testing::given()));
    }

    #[test]
    fn owner_queues_and_bridge_are_as_configured() {
        let keys = r#"{"multiQueue": true, "mtu": 1400, "mac": "02:00:00:00:00:05", "owner": 1000, "group": 107,
            "selinuxContext": "system_u:system_r:container_t:s0", "bridge": "br0"}"#;
        insta::assert_snapshot!(plan(keys, CniResult::default()));
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_key() {
        refused::<Tap>(r#"{"bridge": "not/a/name"}"#, "invalid bridge \"not/a/name\"");
        refused::<Tap>(r#"{"mac": "02:00"}"#, "invalid MAC address asked for: ");
        refused::<Tap>(r#"{"owner": -1}"#, "");
    }
}
