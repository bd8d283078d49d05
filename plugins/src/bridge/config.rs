//! What `bridge` can be told, as types that allow only what makes sense.

use serde::Deserialize;
use zeugma_model::{IfName, Mac};
use zeugma_protocol::NetConf;
use zeugma_skel::Request;

use super::Error;
use super::vlan::{RawTrunk, Vlans};
use crate::interface;
use crate::interface::addressing::DuplicateDetection;

/// The keys as they stand in the configuration; defaults are the reference's.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    bridge: Option<String>,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    mtu: u32,
    hairpin_mode: Option<bool>,
    promisc_mode: bool,
    vlan: i64,
    vlan_trunk: Option<Vec<RawTrunk>>,
    preserve_default_vlan: bool,
    macspoofchk: bool,
    enabledad: bool,
    disable_container_interface: bool,
    port_isolation: bool,
}

/// Whether the bridge is the containers' gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gateway {
    /// The bridge has no address.
    No,
    /// The bridge has the gateways' addresses.
    Yes,
    /// The same, and containers get a default route to it.
    Default,
}

/// How frames that belong back where they came from are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reflection {
    /// They are not.
    Off,
    /// By the port (`hairpin`).
    Hairpin,
    /// By the bridge, which receives everything.
    Promiscuous,
}

/// A bridge network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(super) bridge: IfName,
    pub(super) gateway: Gateway,
    pub(super) vlans: Option<Vlans>,
    /// The interface that is the gateway of the containers' VLAN, where it is not the bridge.
    pub(super) vlan_gateway: Option<IfName>,
    pub(super) force_address: bool,
    pub(super) masquerade: bool,
    /// Bytes; none: the bridge's, and a new bridge has the underlay's.
    pub(super) mtu: Option<u32>,
    pub(super) reflection: Reflection,
    pub(super) guard_mac: bool,
    pub(super) duplicate_detection: DuplicateDetection,
    pub(super) container_down: bool,
    pub(super) isolated: bool,
    /// The container's address when the runtime asks for one.
    pub(super) mac: Option<Mac>,
}

/// The reference's name of a bridge without one.
const DEFAULT_BRIDGE: &str = "cni0";

impl Config {
    /// The keys of the network alone: GC and STATUS have no container.
    pub(super) fn of_network(conf: &NetConf) -> Result<Self, Error> {
        Self::from_raw(conf.plugin_config()?, conf)
    }

    /// The network's keys and what the runtime asks for this container.
    pub(super) fn of(request: &Request) -> Result<Self, Error> {
        let mut config = Self::of_network(&request.conf)?;
        config.mac = interface::mac(request)?;
        Ok(config)
    }

    /// The interface that has the gateways' addresses.
    pub(super) fn gateway_device(&self) -> &IfName {
        self.vlan_gateway.as_ref().unwrap_or(&self.bridge)
    }

    fn from_raw(raw: Raw, conf: &NetConf) -> Result<Self, Error> {
        interface::check_backend(raw.ip_masq_backend.as_deref())?;
        if raw.disable_container_interface && crate::ipam::type_of(conf).is_some() {
            return Err(Error::DownWithAddresses);
        }
        let name = raw.bridge.as_deref().filter(|name| !name.is_empty()).unwrap_or(DEFAULT_BRIDGE);
        let bridge = name.parse().map_err(Error::BridgeName)?;
        let gateway = gateway(&raw);
        let vlans =
            Vlans::parse(raw.vlan, raw.vlan_trunk.as_deref().unwrap_or_default(), raw.preserve_default_vlan)?;
        let vlan_gateway = match &vlans {
            Some(vlans) if gateway != Gateway::No => vlans.gateway(&bridge)?,
            _ => None,
        };
        Ok(Self {
            bridge,
            gateway,
            vlans,
            vlan_gateway,
            force_address: raw.force_address,
            masquerade: raw.ip_masq,
            mtu: (raw.mtu > 0).then_some(raw.mtu),
            reflection: reflection(&raw)?,
            guard_mac: raw.macspoofchk,
            duplicate_detection: if raw.enabledad { DuplicateDetection::On } else { DuplicateDetection::Off },
            container_down: raw.disable_container_interface,
            isolated: raw.port_isolation,
            mac: None,
        })
    }
}

fn gateway(raw: &Raw) -> Gateway {
    match (raw.is_default_gateway, raw.is_gateway) {
        (true, _) => Gateway::Default,
        (false, true) => Gateway::Yes,
        (false, false) => Gateway::No,
    }
}

/// Hairpin is on unless it is switched off or the bridge is promiscuous.
fn reflection(raw: &Raw) -> Result<Reflection, Error> {
    match (raw.hairpin_mode, raw.promisc_mode) {
        (Some(true), true) => Err(Error::HairpinAndPromisc),
        (_, true) => Ok(Reflection::Promiscuous),
        (Some(false), false) => Ok(Reflection::Off),
        (Some(true) | None, false) => Ok(Reflection::Hairpin),
    }
}
