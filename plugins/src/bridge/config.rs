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
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// The bridge; made when it is missing. Default `cni0`.
    bridge: Option<String>,
    /// Whether the bridge gets the addresses' gateways and the host forwards. Where the IPAM names no
    /// gateway it is the subnet's first address. Default false.
    is_gateway: bool,
    /// `isGateway`, and the container gets a default route to it in each family, unless the IPAM gave one with
    /// a next hop. Default false.
    is_default_gateway: bool,
    /// Whether an address of the bridge that excludes the gateway's is replaced; without it that is error
    /// 112. Any other IPv4 address excludes it, and an IPv6 address of an overlapping subnet (link-local
    /// ones never do). Default false.
    force_address: bool,
    /// Whether what the subnet sends to other destinations gets the host's address; not within the subnet,
    /// and not to multicast. Default false.
    ip_masq: bool,
    /// `iptables` or `nftables`; both mean our nftables table, neither program is needed. Default: none.
    ip_masq_backend: Option<String>,
    /// Bytes, of both ends and of a new bridge. Default 0: the bridge's; a new bridge has that of the link
    /// with the default route, else 1500.
    mtu: u32,
    /// Whether a port may send a frame back where it came from, so that a container reaches itself by its
    /// published port. Default **true**.
    hairpin_mode: Option<bool>,
    /// Whether the bridge receives everything, instead of hairpin. With `hairpinMode: true` it is an error,
    /// with that unset it is none. Default false.
    promisc_mode: bool,
    /// 1 to 4094: the container's VLAN, without tags on its port; see [VLANs](#vlans). Default 0: none.
    vlan: i64,
    /// VLANs that the container sees with tags: `{ "id": 5 }`, `{ "minID": 100, "maxID": 200 }`. Default:
    /// none.
    vlan_trunk: Option<Vec<RawTrunk>>,
    /// With `vlan` or `vlanTrunk`: whether the port stays in the bridge's default VLAN, too. Default false.
    preserve_default_vlan: bool,
    /// Whether frames of the container are dropped unless they come from its MAC address. Default false.
    macspoofchk: bool,
    /// Whether IPv6 addresses are probed for duplicates before they are used, which takes the kernel a
    /// second or two; ADD does not wait for it. Default false.
    enabledad: bool,
    /// Whether the container's interface stays down; not together with `ipam`. Default false.
    disable_container_interface: bool,
    /// Whether the port is isolated: it reaches the bridge and ports that are not isolated. Default false.
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
    /// Whether it is the gateway of several subnets at once, as an overlay's is of this host's blocks.
    pub(super) has_blocks: bool,
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
            has_blocks: conf.raw.contains_key(crate::overlay::STATE),
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
