//! VLANs on a bridge: what `vlan`, `vlanTrunk` and `preserveDefaultVlan` mean, and what they add to a plan.
//! The bridge itself joins none of them: the host takes part in a VLAN by an interface of its own.

use serde::Deserialize;
use zeugma_journal::VlanSet;
use zeugma_kernel::LinkState;
use zeugma_model::{AttachmentId, IfName, NameError, VlanId, VlanRange};
use zeugma_plan::{Link, LinkChange, LinkKind, Plan, PortVlans, Side, Step};
use zeugma_upkeep::{GATEWAY_ALIAS, quiet_ipv6};

use super::plan::Facts;

/// Why the VLAN keys make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VlanError {
    /// No such VLAN.
    #[error("invalid \"vlan\" {0}: it is 1 to 4094, or 0 for none")]
    Vlan(i64),
    /// No such VLAN.
    #[error("invalid {key} {value} in \"vlanTrunk\"[{at}]: it is 1 to 4094")]
    Trunk {
        /// Which entry.
        at: usize,
        /// `id`, `minID` or `maxID`.
        key: &'static str,
        /// What it says.
        value: i64,
    },
    /// Half a range.
    #[error("{missing} is missing in \"vlanTrunk\"[{at}]: minID and maxID go together")]
    HalfRange {
        /// Which entry.
        at: usize,
        /// `minID` or `maxID`.
        missing: &'static str,
    },
    /// A range that ends before it starts.
    #[error("minID {min} is greater than maxID {max} in \"vlanTrunk\"[{at}]: exchange them")]
    Backwards {
        /// Which entry.
        at: usize,
        /// `minID`.
        min: VlanId,
        /// `maxID`.
        max: VlanId,
    },
    /// An entry that says nothing.
    #[error("\"vlanTrunk\"[{0}] names no VLAN: give id, or minID and maxID")]
    Empty(usize),
    /// The VLAN's gateway would have a name that no interface can have.
    #[error(
        "the gateway of VLAN {id} on {bridge} cannot be called {bridge}.{id} ({source}): shorten \"bridge\""
    )]
    GatewayName {
        /// The bridge.
        bridge: IfName,
        /// The VLAN.
        id: VlanId,
        /// What is wrong with it.
        source: NameError,
    },
}

/// An entry of `vlanTrunk` as it stands in the configuration.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RawTrunk {
    id: Option<i64>,
    #[serde(rename = "minID")]
    min_id: Option<i64>,
    #[serde(rename = "maxID")]
    max_id: Option<i64>,
}

/// The VLANs of the containers of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vlans {
    /// The VLAN of frames without a tag; none: the trunk is all.
    access: Option<VlanId>,
    /// In order, without overlaps; not empty where there is no `access`.
    trunk: Vec<VlanRange>,
    /// Whether ports stay in the bridge's default VLAN, too.
    keeps_default: bool,
}

impl Vlans {
    /// None when the network knows no VLANs.
    pub(super) fn parse(
        vlan: i64,
        trunk: &[RawTrunk],
        keeps_default: bool,
    ) -> Result<Option<Self>, VlanError> {
        let access = match vlan {
            0 => None,
            number => Some(VlanId::new(number).ok_or(VlanError::Vlan(number))?),
        };
        let mut ranges = Vec::new();
        for (at, entry) in trunk.iter().enumerate() {
            ranges.extend(parse_trunk(at, *entry)?);
        }
        let any = access.is_some() || !ranges.is_empty();
        Ok(any.then(|| Self { access, trunk: VlanRange::merged(ranges), keeps_default }))
    }

    /// The interface by which the host is the gateway of the VLAN; none: the bridge, whose VLAN is the default.
    pub(super) fn gateway(&self, bridge: &IfName) -> Result<Option<IfName>, VlanError> {
        let Some(id) = self.access else { return Ok(None) };
        match format!("{bridge}.{id}").parse() {
            Ok(name) => Ok(Some(name)),
            Err(source) => Err(VlanError::GatewayName { bridge: bridge.clone(), id, source }),
        }
    }

    /// Of a container's port. A trunk without `vlan` has the default VLAN for frames without a tag.
    pub(super) fn of_port(&self, default: Option<VlanId>) -> PortVlans {
        let untagged = self.access.unwrap_or(VlanId::DEFAULT);
        let is_wanted = |id| id == untagged || self.trunk.iter().any(|range| range.contains(id));
        PortVlans {
            leave: default.filter(|id| !self.keeps_default && !is_wanted(*id)),
            tagged: self.trunk.clone(),
            untagged: Some(untagged),
        }
    }

    /// Of the gateway's port: it is no trunk.
    pub(super) fn of_gateway(&self, default: Option<VlanId>) -> PortVlans {
        Self { trunk: Vec::new(), ..self.clone() }.of_port(default)
    }
}

fn parse_trunk(at: usize, entry: RawTrunk) -> Result<Vec<VlanRange>, VlanError> {
    let id = |key, value| VlanId::new(value).ok_or(VlanError::Trunk { at, key, value });
    let mut ranges: Vec<VlanRange> = Vec::new();
    match (entry.min_id, entry.max_id) {
        (Some(min), Some(max)) => {
            let (min, max) = (id("minID", min)?, id("maxID", max)?);
            ranges.push(VlanRange::new(min, max).ok_or(VlanError::Backwards { at, min, max })?);
        }
        (Some(_), None) => return Err(VlanError::HalfRange { at, missing: "maxID" }),
        (None, Some(_)) => return Err(VlanError::HalfRange { at, missing: "minID" }),
        (None, None) if entry.id.is_none() => return Err(VlanError::Empty(at)),
        (None, None) => {}
    }
    if let Some(number) = entry.id {
        ranges.push(id("id", number)?.into());
    }
    Ok(ranges)
}

/// A port's VLANs as a record has them.
pub(super) fn set_of(vlans: &PortVlans) -> VlanSet {
    VlanSet { leave: vlans.leave, tagged: vlans.tagged.clone(), untagged: vlans.untagged }
}

/// The VLAN that the bridge puts new ports into.
pub(super) fn default_of(bridge: Option<&LinkState>) -> Option<VlanId> {
    bridge.map_or(Some(VlanId::DEFAULT), |state| state.vlans.and_then(|vlans| vlans.default))
}

/// The gateway of a VLAN: a veth pair between the bridge and the host, as a bridge with addresses in several
/// VLANs would answer for all of them in each.
pub(super) fn gateway_steps(
    plan: &mut Plan,
    (bridge, gateway): (&IfName, &IfName),
    mtu: u32,
    vlans: &Vlans,
    facts: &Facts,
) {
    let port = AttachmentId::gateway_port(gateway);
    if facts.gateway.is_none() {
        plan.push_lasting(Step::CreateLink(Link {
            side: Side::Host,
            name: port.clone(),
            mtu: Some(mtu),
            mac: Some(facts.gateway_port_mac),
            alias: Some(GATEWAY_ALIAS.into()),
            kind: LinkKind::Uplink {
                peer: gateway.clone(),
                peer_mac: facts.gateway_mac,
                master: bridge.clone(),
            },
        }));
        let joined = vlans.of_gateway(default_of(facts.bridge.as_ref()));
        plan.push_lasting(Step::SetPortVlans(port, joined));
        for sysctl in quiet_ipv6(gateway) {
            plan.push_lasting(Step::SetSysctl(Side::Host, sysctl));
        }
    }
    if facts.gateway.as_ref().is_none_or(|state| !state.up) {
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        plan.push_lasting(Step::SetLink(Side::Host, gateway.clone(), up));
    }
}

/// Whether a bridge filters by VLAN.
pub(super) fn filters(bridge: &LinkState) -> bool {
    bridge.vlans.is_some_and(|vlans| vlans.filtering)
}

/// Which of a bridge's ports lead to gateways that we made.
pub(super) fn is_gateway_port(state: &LinkState) -> bool {
    state.alias.as_deref() == Some(GATEWAY_ALIAS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use zeugma_kernel::BridgeVlans;
    use zeugma_model::Mac;
    use zeugma_protocol::{CniResult, Ip, NetConf};

    use super::super::config::Config;
    use super::super::plan::attached;
    use super::*;
    use crate::interface::Place;

    fn parsed(vlan: i64, trunk: serde_json::Value) -> Result<String, String> {
        let trunk: Vec<RawTrunk> = serde_json::from_value(trunk).unwrap();
        let vlans = Vlans::parse(vlan, &trunk, false).map_err(|error| error.to_string())?;
        let step =
            vlans.map(|vlans| Step::SetPortVlans("p".parse().unwrap(), vlans.of_port(Some(VlanId::DEFAULT))));
        let text = step.map(|step| step.to_string()).unwrap_or_default();
        Ok(text.replace("host: bridge vlan ", "").replace("dev p vid ", "").replace('\n', ", "))
    }

    fn check(vlan: i64, trunk: serde_json::Value, expected: &str) {
        assert_eq!(parsed(vlan, trunk).unwrap(), expected);
    }

    fn refused(vlan: i64, trunk: serde_json::Value, expected: &str) {
        assert_eq!(parsed(vlan, trunk).unwrap_err(), expected);
    }

    #[test]
    fn ports_join_what_they_are_told_and_leave_the_default() {
        check(0, json!([]), "");
        check(10, json!([]), "del 1, add 10 pvid untagged");
        check(1, json!([]), "add 1 pvid untagged");
        check(0, json!([{"id": 5}, {"minID": 100, "maxID": 200}]), "add 5, add 100-200, add 1 pvid untagged");
        check(10, json!([{"id": 5}]), "del 1, add 5, add 10 pvid untagged");
        check(10, json!([{"id": 1}]), "add 1, add 10 pvid untagged");
        check(
            0,
            json!([{"minID": 2, "maxID": 9}, {"minID": 5, "maxID": 12}, {"id": 13}]),
            "add 2-13, add 1 pvid untagged",
        );
        check(0, json!([{"id": 7, "minID": 2, "maxID": 3}]), "add 2-3, add 7, add 1 pvid untagged");
    }

    #[test]
    fn the_default_vlan_stays_where_it_is_preserved() {
        let vlans = Vlans::parse(10, &[], true).unwrap().unwrap();
        assert_eq!(vlans.of_port(Some(VlanId::DEFAULT)).leave, None);
    }

    #[test]
    fn what_is_no_vlan_is_refused_with_its_place() {
        refused(4095, json!([]), "invalid \"vlan\" 4095: it is 1 to 4094, or 0 for none");
        refused(-1, json!([]), "invalid \"vlan\" -1: it is 1 to 4094, or 0 for none");
        refused(0, json!([{"id": 5}, {"id": 0}]), "invalid id 0 in \"vlanTrunk\"[1]: it is 1 to 4094");
        refused(
            0,
            json!([{"minID": 1, "maxID": 4095}]),
            "invalid maxID 4095 in \"vlanTrunk\"[0]: it is 1 to 4094",
        );
        refused(
            0,
            json!([{"minID": 1}]),
            "maxID is missing in \"vlanTrunk\"[0]: minID and maxID go together",
        );
        refused(
            0,
            json!([{"maxID": 1}]),
            "minID is missing in \"vlanTrunk\"[0]: minID and maxID go together",
        );
        refused(
            0,
            json!([{"minID": 9, "maxID": 5}]),
            "minID 9 is greater than maxID 5 in \"vlanTrunk\"[0]: exchange them",
        );
        refused(0, json!([{}]), "\"vlanTrunk\"[0] names no VLAN: give id, or minID and maxID");
    }

    #[test]
    fn a_gateway_s_name_fits_or_is_refused() {
        let vlans = Vlans::parse(4000, &[], false).unwrap().unwrap();
        assert_eq!(vlans.gateway(&"cni0".parse().unwrap()).unwrap().unwrap().as_str(), "cni0.4000");
        let error = vlans.gateway(&"long-bridge0".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("shorten \"bridge\""), "{error}");
    }

    fn planned(keys: serde_json::Value, bridge: Option<LinkState>) -> Result<String, String> {
        let mut conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0"});
        conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let conf = NetConf::parse(conf.to_string().as_bytes()).unwrap();
        let config = Config::of_network(&conf).map_err(|error| error.to_string())?;
        let mac = |last| Mac([2, 0, 0, 0, 0, last]);
        let facts = Facts {
            bridge,
            gateway_addresses: Vec::new(),
            gateway: None,
            underlay_mtu: None,
            bridge_mac: mac(1),
            gateway_mac: mac(2),
            gateway_port_mac: mac(3),
            host_mac: mac(4),
            container_mac: mac(5),
        };
        let attachment = AttachmentId {
            network: conf.name,
            container: "one".parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        let mut given = CniResult::default();
        given.ips.push(Ip { address: "10.1.0.2/24".parse().unwrap(), gateway: None, interface: None });
        let place = Place { attachment, netns: None };
        let done = attached(&config, &place, given, &facts).map_err(|error| error.to_string())?;
        let interfaces: Vec<_> =
            done.result.interfaces.iter().map(|interface| interface.name.as_str()).collect();
        Ok(format!("{}interfaces: {}", done.links.then(done.addresses), interfaces.join(" ")))
    }

    fn present(filtering: bool) -> LinkState {
        let vlans = Some(BridgeVlans { filtering, default: VlanId::new(77) });
        LinkState { kind: "bridge".into(), mtu: 1400, up: true, vlans, ..LinkState::default() }
    }

    #[test]
    fn a_network_in_a_vlan_has_a_gateway_of_its_own() {
        insta::assert_snapshot!("gateway", planned(json!({"vlan": 10, "isGateway": true}), None).unwrap());
    }

    #[test]
    fn a_bridge_that_is_there_begins_to_filter() {
        insta::assert_snapshot!(
            "present",
            planned(json!({"vlanTrunk": [{"id": 5}]}), Some(present(false))).unwrap()
        );
        let again = planned(json!({"vlan": 5}), Some(present(true))).unwrap();
        assert!(!again.contains("vlan_filtering") && !again.contains("ip link set br0"), "{again}");
    }

    #[test]
    fn a_kernel_without_vlans_on_bridges_is_named() {
        let bare = LinkState { vlans: None, ..present(false) };
        let error = planned(json!({"vlan": 5}), Some(bare.clone())).unwrap_err();
        assert!(error.contains("CONFIG_BRIDGE_VLAN_FILTERING"), "{error}");
        assert!(planned(json!({}), Some(bare)).is_ok());
    }
}
