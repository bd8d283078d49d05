//! A network: what the containers on it share. What it is, not how a plugin makes it (`plan::network`).
//!
//! Drivers and options have Docker's words, so that what people know and what their files say holds here, too.

mod driver;
mod error;
mod subnet;

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

pub use driver::{BridgeOptions, Driver, IpvlanMode, MacvlanMode, OverlayOptions};
pub use error::NetworkError;
pub use subnet::{Subnet, SubnetError, overlap};

use crate::{IfName, NetworkName, Vni};

/// Bytes: the least that IPv4 hosts take (RFC 791), the most that an IP packet has.
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;
/// Bytes: the least of a link that has IPv6 (RFC 8200, 5).
const LEAST_V6_MTU: u32 = 1280;

/// A network, as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// How its containers are joined.
    pub driver: Driver,
    /// The options as they were given; what they mean is in the other fields.
    pub options: BTreeMap<String, String>,
    /// Where its addresses come from; none: nothing is given out here, or not yet.
    pub subnets: Vec<Subnet>,
    /// Whether an IPv6 subnet is wanted where none is named.
    pub ipv6: bool,
    /// Whether there is no way out of it.
    pub internal: bool,
    /// Whether its containers reach one another.
    pub icc: bool,
    /// Bytes; none: that of the wire below.
    pub mtu: Option<u32>,
    /// Whether its containers find one another by name.
    pub dns: bool,
    /// For people and their tools, such as the stack that it belongs to.
    pub labels: BTreeMap<String, String>,
    /// When it was created, in seconds since 1970; 0: not known.
    pub created: u64,
}

impl Network {
    /// The label that says which stack it belongs to, in Docker's words.
    pub const STACK: &str = "com.docker.stack.namespace";

    /// The bridge that its containers are on; none with another driver.
    pub fn bridge(&self) -> Option<IfName> {
        match &self.driver {
            Driver::Bridge(options) => Some(options.name.clone().unwrap_or_else(|| self.name.bridge())),
            Driver::Overlay(_) => Some(self.name.bridge()),
            Driver::Ptp | Driver::Macvlan { .. } | Driver::Ipvlan { .. } => None,
        }
    }

    /// What is particular to it as an overlay; none with another driver.
    pub fn overlay(&self) -> Option<&OverlayOptions> {
        match &self.driver {
            Driver::Overlay(options) => Some(options),
            Driver::Bridge(_) | Driver::Ptp | Driver::Macvlan { .. } | Driver::Ipvlan { .. } => None,
        }
    }

    /// Whether it is one network on all hosts, and not one of a single host.
    pub fn is_shared(&self) -> bool {
        self.overlay().is_some()
    }

    /// The overlay with a network identifier and a port, where it needs them and has none.
    #[must_use]
    pub fn allocated(mut self, vni: Vni, port: NonZeroU16) -> Self {
        let Driver::Overlay(options) = &mut self.driver else { return self };
        if options.needs_vni() {
            options.vni = Some(vni);
            self.options.insert("vni".into(), vni.to_string());
        }
        if options.needs_port() {
            options.port = Some(port);
            self.options.insert("port".into(), port.to_string());
        }
        self
    }

    /// Whether this is what became of `wanted`: all that it says, subnets, a network identifier and a port that were
    /// found for it, and a date.
    pub fn comes_of(&self, wanted: &Network) -> bool {
        let has_all = wanted.subnets.iter().all(|one| self.subnets.contains(one));
        let (subnets, created) = (self.subnets.clone(), self.created);
        has_all && *self == Network { subnets, created, ..self.found_for(wanted) }
    }

    fn found_for(&self, wanted: &Network) -> Network {
        let mut wanted = wanted.clone();
        let (Driver::Overlay(theirs), Some(mine)) = (&mut wanted.driver, self.overlay()) else {
            return wanted;
        };
        for (option, is_needed) in [("vni", theirs.needs_vni()), ("port", theirs.needs_port())] {
            if let Some(value) = self.options.get(option).filter(|_| is_needed) {
                wanted.options.insert(option.into(), value.clone());
            }
        }
        theirs.vni = theirs.vni.or(mine.vni);
        theirs.port = theirs.port.or(mine.port);
        wanted
    }

    fn ensure_one_network(&self) -> Result<(), NetworkError> {
        for (position, one) in self.subnets.iter().enumerate() {
            if let Some(other) = self.subnets[..position].iter().find(|other| other.overlaps(one)) {
                let network = self.name.clone();
                return Err(NetworkError::Overlap {
                    network,
                    one: other.to_string(),
                    other: one.to_string(),
                });
            }
        }
        Ok(())
    }

    fn ensure_driver_can(&self) -> Result<(), NetworkError> {
        let cannot = |what| {
            let (network, driver) = (self.name.clone(), self.driver.as_str());
            Err(NetworkError::DriverCannot { network, driver, what })
        };
        match self.driver {
            Driver::Macvlan { .. } | Driver::Ipvlan { .. } if !self.icc => cannot("keep containers apart"),
            Driver::Ptp if !self.icc || self.internal => cannot("keep containers apart or be internal"),
            Driver::Ipvlan { .. } if self.subnets.is_empty() => {
                Err(NetworkError::NeedsSubnet(self.name.clone()))
            }
            Driver::Overlay(_) if !self.icc => cannot("keep containers apart"),
            Driver::Overlay(_) if self.subnets.iter().any(Subnet::is_particular) => {
                cannot("have a gateway or a range of its own, since every host has a part of the subnet")
            }
            Driver::Bridge(_)
            | Driver::Ptp
            | Driver::Macvlan { .. }
            | Driver::Ipvlan { .. }
            | Driver::Overlay(_) => Ok(()),
        }
    }

    /// Every host takes a part of every subnet, which is to be larger than such a part.
    fn ensure_subnets_have_blocks(&self) -> Result<(), NetworkError> {
        let Some(options) = self.overlay() else { return Ok(()) };
        for Subnet { subnet, .. } in &self.subnets {
            let option = if subnet.is_ipv4() { "block" } else { "block6" };
            let block = options.block(*subnet);
            let is_told = self.options.get(option).is_some_and(|told| *told != block.to_string());
            if is_told || subnet.prefix() > OverlayOptions::longest(*subnet) {
                return Err(NetworkError::Value {
                    network: self.name.clone(),
                    option: option.into(),
                    value: self.options.get(option).cloned().unwrap_or_else(|| block.to_string()),
                    why: format!(
                        "subnet {subnet} is no larger than a host's part of it: take a larger subnet"
                    ),
                });
            }
        }
        Ok(())
    }

    /// The gateway of a VLAN is an interface of its own: `BRIDGE.VLAN`.
    fn ensure_gateway_has_a_name(&self) -> Result<(), NetworkError> {
        let vlan = match &self.driver {
            Driver::Bridge(options) => options.vlan,
            Driver::Ptp | Driver::Macvlan { .. } | Driver::Ipvlan { .. } | Driver::Overlay(_) => None,
        };
        let Some((bridge, vlan)) = self.bridge().zip(vlan) else { return Ok(()) };
        match format!("{bridge}.{vlan}").parse::<IfName>() {
            Ok(_) => Ok(()),
            Err(_) => Err(NetworkError::Value {
                network: self.name.clone(),
                option: "vlan".into(),
                value: vlan.to_string(),
                why: format!(
                    "{bridge}.{vlan} is too long for an interface: name a shorter bridge \
                     (com.docker.network.bridge.name)"
                ),
            }),
        }
    }

    fn ensure_mtu(&self) -> Result<(), NetworkError> {
        let has_v6 = self.ipv6 || self.subnets.iter().any(|one| one.subnet.is_ipv6());
        let least = if has_v6 { LEAST_V6_MTU } else { *MTU.start() };
        match self.mtu {
            Some(mtu) if mtu < least || mtu > *MTU.end() => {
                Err(NetworkError::Mtu { network: self.name.clone(), mtu, least })
            }
            _ => Ok(()),
        }
    }
}

/// The network as it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: NetworkName,
    #[serde(default = "bridge")]
    driver: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, String>,
    #[serde(default)]
    subnets: Vec<subnet::Raw>,
    #[serde(default)]
    ipv6: bool,
    #[serde(default)]
    internal: bool,
    #[serde(default = "yes")]
    icc: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(default = "yes")]
    dns: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    created: u64,
}

fn bridge() -> String {
    "bridge".into()
}

fn yes() -> bool {
    true
}

impl TryFrom<Raw> for Network {
    type Error = NetworkError;
    fn try_from(raw: Raw) -> Result<Self, NetworkError> {
        let said = driver::read(&raw.name, &raw.driver, &raw.options)?;
        let subnet = |one| {
            Subnet::try_from(one).map_err(|source| NetworkError::Subnet { network: raw.name.clone(), source })
        };
        let mtu = match (raw.mtu, said.mtu) {
            (Some(one), Some(other)) if one != other => {
                return Err(NetworkError::MtuTwice { network: raw.name, one, other });
            }
            (one, other) => one.or(other),
        };
        let network = Self {
            subnets: raw.subnets.into_iter().map(subnet).collect::<Result<_, _>>()?,
            name: raw.name,
            driver: said.driver,
            options: raw.options,
            ipv6: raw.ipv6,
            internal: raw.internal,
            icc: raw.icc && said.icc.unwrap_or(true),
            mtu,
            dns: raw.dns,
            labels: raw.labels,
            created: raw.created,
        };
        network.ensure_one_network()?;
        network.ensure_driver_can()?;
        network.ensure_mtu()?;
        network.ensure_gateway_has_a_name()?;
        network.ensure_subnets_have_blocks()?;
        Ok(network)
    }
}

impl From<Network> for Raw {
    fn from(network: Network) -> Self {
        Self {
            name: network.name,
            driver: network.driver.as_str().into(),
            options: network.options,
            subnets: network.subnets.into_iter().map(Into::into).collect(),
            ipv6: network.ipv6,
            internal: network.internal,
            icc: network.icc,
            mtu: network.mtu,
            dns: network.dns,
            labels: network.labels,
            created: network.created,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backend;
    use serde_json::{Value, json};

    fn parsed(value: Value) -> Result<Network, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    fn with(keys: &Value) -> Result<Network, String> {
        let mut value = json!({"name": "front"});
        value.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        parsed(value)
    }

    fn refused(keys: &Value, words: &str) {
        let error = with(keys).unwrap_err();
        assert!(error.contains("front") && error.contains(words), "{error}");
    }

    #[test]
    fn a_network_is_written_as_it_is_read() {
        let text = json!({
            "name": "front", "driver": "bridge", "subnets": [
                {"subnet": "10.1.0.0/24", "gateway": "10.1.0.254", "range": "10.1.0.128/25"},
                {"subnet": "fd00:1::/64", "gateway": "fd00:1::1"}],
            "options": {"com.docker.network.bridge.name": "br7", "vlan": "7"},
            "ipv6": true, "internal": false, "icc": true, "mtu": 1400, "dns": true,
            "labels": {"com.docker.stack.namespace": "shop"}, "created": 1_700_000_000,
        });
        let network = parsed(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&network).unwrap(), text);
        assert_eq!(network.bridge().unwrap().as_str(), "br7");
    }

    #[test]
    fn a_name_is_enough() {
        let network = with(&json!({})).unwrap();
        assert!(network.icc && network.dns && !network.internal && network.subnets.is_empty());
        assert_eq!(network.bridge().unwrap().as_str(), "br-front");
    }

    #[test]
    fn docker_s_options_mean_what_they_mean_there() {
        let network = with(&json!({"options": {
            "com.docker.network.bridge.enable_icc": "false", "com.docker.network.driver.mtu": "1400",
            "com.docker.network.bridge.enable_ip_masquerade": "false"}}));
        let network = network.unwrap();
        assert_eq!((network.icc, network.mtu), (false, Some(1400)));
        let Driver::Bridge(options) = network.driver else { panic!("no bridge") };
        assert!(!options.masquerade);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        refused(&json!({"subnets": [{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/16"}]}), "overlap");
        refused(&json!({"driver": "overlay2"}), "take bridge, overlay, macvlan");
        refused(&json!({"options": {"paernt": "eth0"}}), "no option \"paernt\"");
        refused(&json!({"options": {"parent": "eth0"}}), "driver bridge has no option");
        refused(&json!({"options": {"mtu": "many"}}), "option mtu=many");
        refused(&json!({"mtu": 1400, "options": {"mtu": "1500"}}), "leave one");
        refused(&json!({"mtu": 67}), "take 68 to 65535");
        let long = json!({"com.docker.network.bridge.name": "br-frontfront", "vlan": "100"});
        refused(&json!({"options": long}), "name a shorter bridge");
        refused(&json!({"mtu": 1279, "ipv6": true}), "take 1280");
        refused(&json!({"driver": "ipvlan"}), "needs a subnet");
        refused(&json!({"driver": "macvlan", "icc": false}), "use driver bridge");
    }

    fn overlay(options: Value) -> Result<Network, String> {
        with(&json!({"driver": "overlay", "options": options}))
    }

    #[test]
    fn an_overlay_s_options_say_how_packets_get_to_other_hosts() {
        let options = |given: Value| overlay(given).unwrap().overlay().unwrap().clone();
        let usual = options(json!({}));
        assert_eq!(
            (usual.backend, usual.masquerade, usual.port().unwrap().get()),
            (Backend::Vxlan, true, 4789)
        );
        for encrypted in
            [json!({"encrypted": ""}), json!({"encrypted": "true"}), json!({"backend": "wireguard"})]
        {
            let options = options(encrypted);
            assert_eq!((options.backend, options.port(), options.vni()), (Backend::Wireguard, None, None));
            assert!(options.needs_port() && !options.needs_vni());
        }
        let docker =
            options(json!({"com.docker.network.driver.overlay.vxlanid_list": "4097", "port": "8472"}));
        assert_eq!((docker.vni().unwrap().get(), docker.port().unwrap().get()), (4097, 8472));
        let allowed = options(json!({"reachable_from": "front, back"})).reachable_from;
        assert_eq!(allowed.iter().map(NetworkName::as_str).collect::<Vec<_>>(), ["back", "front"]);
    }

    #[test]
    fn options_of_an_overlay_that_contradict_each_other_are_refused() {
        let refused = |options: Value, words: &str| {
            let error = overlay(options).unwrap_err();
            assert!(error.contains("front") && error.contains(words), "{error}");
        };
        refused(json!({"encrypted": "", "backend": "vxlan"}), "only wireguard");
        refused(json!({"vni": "1", "com.docker.network.driver.overlay.vxlanid_list": "2"}), "is 2");
        refused(json!({"com.docker.network.driver.overlay.vxlanid_list": "1,2"}), "a number");
        refused(json!({"vni": "16777216"}), "16777215");
        refused(json!({"port": "0"}), "65535");
        refused(json!({"block": "30"}), "8 to 29");
        refused(json!({"reachable_from": "a/b"}), "invalid characters");
    }

    #[test]
    fn every_node_takes_a_part_of_each_subnet() {
        let block = |subnet: &str, options: Value| {
            let network = json!({"driver": "overlay", "options": options, "subnets": [{"subnet": subnet}]});
            with(&network).map(|network| network.overlay().unwrap().block(subnet.parse().unwrap()))
        };
        assert_eq!(block("10.1.0.0/16", json!({})), Ok(24));
        assert_eq!(block("10.1.0.0/24", json!({})), Ok(28));
        assert_eq!(block("10.1.0.0/28", json!({})), Ok(29));
        assert_eq!(block("10.1.0.0/16", json!({"block": "28"})), Ok(28));
        assert_eq!(block("fd00::/56", json!({})), Ok(64));
        assert_eq!(block("fd00::/64", json!({})), Ok(72));
        assert!(block("10.1.0.0/29", json!({})).unwrap_err().contains("larger subnet"));
        assert!(block("10.1.0.0/24", json!({"block": "24"})).unwrap_err().contains("larger subnet"));
    }

    #[test]
    fn an_overlay_has_no_gateway_of_its_own() {
        let subnet = json!([{"subnet": "10.1.0.0/16", "gateway": "10.1.0.254"}]);
        refused(&json!({"driver": "overlay", "subnets": subnet}), "every host has a part");
        refused(&json!({"driver": "overlay", "icc": false}), "keep containers apart");
    }

    #[test]
    fn what_was_allocated_makes_no_other_network_of_it() {
        let (vni, port) = (Vni::try_from(4096).unwrap(), NonZeroU16::new(51820).unwrap());
        for options in [json!({}), json!({"encrypted": ""})] {
            let wanted = overlay(options).unwrap();
            let found = wanted.clone().allocated(vni, port);
            assert!(found != wanted && found.comes_of(&wanted));
            assert_eq!(serde_json::from_value::<Network>(json!(found)).unwrap(), found);
        }
        let named = overlay(json!({"vni": "7"})).unwrap();
        assert_eq!(named.clone().allocated(vni, port), named);
        assert!(!overlay(json!({})).unwrap().allocated(vni, port).comes_of(&named));
    }

    #[test]
    fn subnets_and_a_date_make_no_other_network_of_it() {
        let found = json!({"created": 1, "subnets": [{"subnet": "10.89.0.0/24"}]});
        let (found, other) = (with(&found).unwrap(), json!({"subnets": [{"subnet": "10.1.0.0/24"}]}));
        assert!(found.comes_of(&with(&json!({})).unwrap()));
        assert!(!found.comes_of(&with(&json!({"icc": false})).unwrap()));
        assert!(!found.comes_of(&with(&other).unwrap()));
    }
}
