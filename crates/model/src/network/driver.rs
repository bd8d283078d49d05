//! How the containers of a network are joined, read out of a driver's name and its options.

mod overlay;

use std::collections::BTreeMap;
use std::fmt;

pub use overlay::OverlayOptions;

use super::NetworkError;
use crate::{Backend, IfName, NetworkName, VlanId, Vni};

/// How containers are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// By a bridge of the host.
    Bridge(BridgeOptions),
    /// Each to the host, by routes.
    Ptp,
    /// On the wire of an interface of the host, each with an Ethernet address of its own.
    Macvlan {
        /// That interface; none: that of the default route.
        parent: Option<IfName>,
        /// Who hears whom.
        mode: MacvlanMode,
    },
    /// On the wire of an interface of the host, with its Ethernet address.
    Ipvlan {
        /// That interface; none: that of the default route.
        parent: Option<IfName>,
        /// Where packets are switched or routed.
        mode: IpvlanMode,
    },
    /// By a bridge of each host, and routes between hosts.
    Overlay(OverlayOptions),
}

/// What is particular to a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeOptions {
    /// Its name; none: one made of the network's.
    pub name: Option<IfName>,
    /// Whether the outside sees the host's address.
    pub masquerade: bool,
    /// The VLAN of the network's containers on it.
    pub vlan: Option<VlanId>,
    /// Whether frames with another Ethernet address than the container's are dropped.
    pub mac_spoof_check: bool,
}

/// How macvlans of the same parent hear one another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Directly.
    #[default]
    Bridge,
    /// Not at all.
    Private,
    /// By way of the switch outside.
    Vepa,
    /// There is only one.
    Passthru,
}

/// Where an ipvlan's packets are switched or routed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IpvlanMode {
    /// In the container's stack, switched by the parent.
    #[default]
    L2,
    /// Routed in the parent's stack.
    L3,
    /// Routed in the parent's stack, by way of its netfilter hooks.
    L3s,
}

impl Driver {
    /// Its name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Bridge(_) => "bridge",
            Self::Ptp => "ptp",
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
            Self::Overlay(_) => "overlay",
        }
    }
}

const MACVLAN_MODES: [MacvlanMode; 4] =
    [MacvlanMode::Bridge, MacvlanMode::Private, MacvlanMode::Vepa, MacvlanMode::Passthru];
const IPVLAN_MODES: [IpvlanMode; 3] = [IpvlanMode::L2, IpvlanMode::L3, IpvlanMode::L3s];

impl fmt::Display for MacvlanMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bridge => "bridge",
            Self::Private => "private",
            Self::Vepa => "vepa",
            Self::Passthru => "passthru",
        })
    }
}

impl fmt::Display for IpvlanMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::L2 => "l2",
            Self::L3 => "l3",
            Self::L3s => "l3s",
        })
    }
}

/// What a driver and its options say.
pub(super) struct Said {
    pub(super) driver: Driver,
    pub(super) icc: Option<bool>,
    pub(super) mtu: Option<u32>,
}

/// Options of all drivers: Docker's word, and Podman's.
const COMMON: &[&str] = &["com.docker.network.driver.mtu", "mtu"];
/// The drivers, and the options that each has beside those.
const DRIVERS: &[(&str, &[&str])] = &[
    (
        "bridge",
        &[
            "com.docker.network.bridge.name",
            "com.docker.network.bridge.enable_icc",
            "com.docker.network.bridge.enable_ip_masquerade",
            "vlan",
            "mac_spoof_check",
        ],
    ),
    ("macvlan", &["parent", "macvlan_mode", "mode"]),
    ("ipvlan", &["parent", "ipvlan_mode", "mode"]),
    ("ptp", &[]),
    ("overlay", overlay::OPTIONS),
];

pub(super) fn read(
    network: &NetworkName,
    driver: &str,
    given: &BTreeMap<String, String>,
) -> Result<Said, NetworkError> {
    let Some((driver, known)) = DRIVERS.iter().find(|(name, _)| *name == driver) else {
        return Err(NetworkError::Driver { network: network.clone(), driver: driver.into() });
    };
    let options = Options { network, given };
    options.ensure_known(driver, known)?;
    let driver = match *driver {
        "bridge" => Driver::Bridge(bridge(&options)?),
        "macvlan" => Driver::Macvlan {
            parent: options.interface("parent")?,
            mode: options.mode(&["macvlan_mode", "mode"], &MACVLAN_MODES)?,
        },
        "ipvlan" => Driver::Ipvlan {
            parent: options.interface("parent")?,
            mode: options.mode(&["ipvlan_mode", "mode"], &IPVLAN_MODES)?,
        },
        "overlay" => Driver::Overlay(overlay::read(&options)?),
        _ => Driver::Ptp,
    };
    let mtu = options.number("mtu")?.or(options.number("com.docker.network.driver.mtu")?);
    Ok(Said { driver, icc: options.truth("com.docker.network.bridge.enable_icc")?, mtu })
}

fn bridge(options: &Options<'_>) -> Result<BridgeOptions, NetworkError> {
    let vlan = |number: u32| VlanId::new(number.into());
    let vlan = match options.number("vlan")? {
        Some(number) => Some(vlan(number).ok_or_else(|| options.wrong("vlan", "take 1 to 4094"))?),
        None => None,
    };
    Ok(BridgeOptions {
        name: options.interface("com.docker.network.bridge.name")?,
        masquerade: options.truth("com.docker.network.bridge.enable_ip_masquerade")?.unwrap_or(true),
        vlan,
        mac_spoof_check: options.truth("mac_spoof_check")?.unwrap_or(false),
    })
}

/// Options with the network that they are for.
struct Options<'a> {
    network: &'a NetworkName,
    given: &'a BTreeMap<String, String>,
}

impl Options<'_> {
    fn ensure_known(&self, driver: &'static str, known: &[&str]) -> Result<(), NetworkError> {
        let known: Vec<&str> = known.iter().chain(COMMON).copied().collect();
        let Some(option) = self.given.keys().find(|option| !known.contains(&option.as_str())) else {
            return Ok(());
        };
        let (network, option) = (self.network.clone(), option.clone());
        Err(NetworkError::Option { network, driver, option, known: known.join(", ") })
    }

    fn wrong(&self, option: &str, why: impl Into<String>) -> NetworkError {
        NetworkError::Value {
            network: self.network.clone(),
            option: option.into(),
            value: self.given.get(option).cloned().unwrap_or_default(),
            why: why.into(),
        }
    }

    /// As Go's `strconv.ParseBool` reads it, which is what Docker does.
    fn truth(&self, option: &str) -> Result<Option<bool>, NetworkError> {
        match self.given.get(option).map(String::as_str) {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(_) => Err(self.wrong(option, "take true or false")),
        }
    }

    fn number(&self, option: &str) -> Result<Option<u32>, NetworkError> {
        let number = |text: &String| text.parse().map_err(|_| self.wrong(option, "it is to be a number"));
        self.given.get(option).map(number).transpose()
    }

    fn interface(&self, option: &str) -> Result<Option<IfName>, NetworkError> {
        let name = |text: &String| text.parse().map_err(|error| self.wrong(option, format!("{error}")));
        self.given.get(option).map(name).transpose()
    }

    fn mode<T: Copy + Default + fmt::Display>(&self, words: &[&str], all: &[T]) -> Result<T, NetworkError> {
        let Some((word, value)) = words.iter().find_map(|word| Some((*word, self.given.get(*word)?))) else {
            return Ok(T::default());
        };
        let names = || all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let found = all.iter().find(|mode| mode.to_string() == *value).copied();
        found.ok_or_else(|| self.wrong(word, format!("take one of {}", names())))
    }
}
