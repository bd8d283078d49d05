//! Which device is meant: the configuration's keys and the runtime's `deviceID`. Nothing is looked for here.

use std::path::{Component, PathBuf};

use serde::Deserialize;
use zeugma_model::{IfName, Mac};
use zeugma_protocol::NetConf;
use zeugma_skel::Request;

use crate::interface::Error;
use crate::interface::addressing::DuplicateDetection;

/// The keys as they stand in the configuration. The first of them that is given says which device is meant.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// The name of the host's interface.
    device: Option<String>,
    /// Its MAC address; where several have it, the oldest one is meant.
    #[serde(rename = "hwaddr")]
    hw_addr: Option<String>,
    /// The folder of the device in the kernel's tree, below `/sys/devices/`; its first interface is meant.
    #[serde(rename = "kernelpath")]
    kernel_path: Option<String>,
    /// The device's PCI address, such as `0000:03:00.1`; its first interface is meant.
    #[serde(rename = "pciBusID")]
    pci_bus_id: Option<String>,
    /// Whether IPv6 addresses are probed for duplicates before they are used (zeugma's own key). Default false.
    enabledad: bool,
}

/// A network of host devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// Which device; none: the runtime says.
    pub(super) selector: Option<Selector>,
    pub(super) duplicate_detection: DuplicateDetection,
}

/// Which device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    /// The interface of this name.
    Name(IfName),
    /// The interface with this address.
    Mac(Mac),
    /// The device with this folder.
    KernelPath(PathBuf),
    /// The PCI device with this address.
    Pci(String),
    /// The PCI device or the auxiliary device of this name.
    DeviceId(String),
}

impl Config {
    /// What the network's configuration says.
    pub(super) fn of_network(conf: &NetConf) -> Result<Self, Error> {
        let raw: Raw = conf.plugin_config()?;
        Ok(Self { duplicate_detection: raw.enabledad.into(), selector: Selector::of_network(raw)? })
    }

    /// What the configuration and the runtime say: `deviceID` stands in for `pciBusID`.
    pub(super) fn of(request: &Request) -> Result<Self, Error> {
        let network = Self::of_network(&request.conf)?;
        let asked: Option<String> = request.conf.capability("deviceID")?;
        let selector = match (network.selector, asked.filter(|id| !id.is_empty())) {
            (None | Some(Selector::Pci(_)), Some(id)) => Some(Selector::DeviceId(bus_id("deviceID", id)?)),
            (selector, _) => selector,
        };
        Ok(Self { selector, ..network })
    }
}

impl Selector {
    fn of_network(raw: Raw) -> Result<Option<Self>, Error> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(name) = given(raw.device) {
            return Ok(Some(Self::Name(interface_name(name)?)));
        }
        if let Some(mac) = given(raw.hw_addr) {
            return Ok(Some(Self::Mac(mac.parse().map_err(Error::Mac)?)));
        }
        if let Some(folder) = given(raw.kernel_path) {
            return Ok(Some(Self::KernelPath(kernel_path(folder)?)));
        }
        given(raw.pci_bus_id).map(|id| bus_id("pciBusID", id).map(Self::Pci)).transpose()
    }

    /// The key and what it says, for messages.
    pub(crate) fn words(&self) -> (&'static str, String) {
        match self {
            Self::Name(name) => ("device", name.to_string()),
            Self::Mac(mac) => ("hwaddr", mac.to_string()),
            Self::KernelPath(folder) => ("kernelpath", folder.display().to_string()),
            Self::Pci(address) => ("pciBusID", address.clone()),
            Self::DeviceId(id) => ("deviceID", id.clone()),
        }
    }
}

fn interface_name(text: String) -> Result<IfName, Error> {
    text.parse().map_err(|_| Error::Value { key: "device", value: text, allowed: "the name of an interface" })
}

fn kernel_path(text: String) -> Result<PathBuf, Error> {
    let path = PathBuf::from(&text);
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if is_plain && path.starts_with("/sys/devices") {
        return Ok(path);
    }
    Err(Error::Value { key: "kernelpath", value: text, allowed: "an absolute path below /sys/devices/" })
}

/// A name in a folder of sysfs.
fn bus_id(key: &'static str, text: String) -> Result<String, Error> {
    let is_name = !text.starts_with('.')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":._-".contains(&byte));
    if is_name {
        return Ok(text);
    }
    let allowed = if key == "pciBusID" {
        "a PCI address, such as 0000:03:00.1"
    } else {
        "the name of a PCI or auxiliary device"
    };
    Err(Error::Value { key, value: text, allowed })
}
