//! What the agent wrote down of an overlay, as the configuration that `bridge` and `host-local` take.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};
use zeugma_journal::OverlayStates;
use zeugma_model::{NetworkName, OverlayState};
use zeugma_protocol::NetConf;
use zeugma_skel::{NetworkRequest, Request, delegate};

use super::Error;
use super::config::Raw;
use crate::cause::Cause;

/// The key that carries the state through the verbs, so that it is read once.
pub(crate) const STATE: &str = "zeugma-overlay";
/// Keys that every plugin has; what else stands in the configuration is not for `bridge`.
const COMMON: [&str; 10] = [
    "cniVersion",
    "name",
    "type",
    "args",
    "capabilities",
    "runtimeConfig",
    "dns",
    "prevResult",
    "cni.dev/valid-attachments",
    "cni.dev/attachments",
];

/// What a verb cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// All that the agent writes down.
    State,
    /// What an overlay's parts are called is enough: DEL and GC.
    Nothing,
}

/// The request as `bridge` takes it.
pub(super) fn request(request: &Request, need: Need) -> Result<Request, Error> {
    let conf = told(&request.conf, &request.path, need)?;
    Ok(Request { stdin: written(&conf)?, conf, ..request.clone() })
}

/// The request as `bridge` takes it.
pub(super) fn network_request(request: &NetworkRequest, need: Need) -> Result<NetworkRequest, Error> {
    let conf = told(&request.conf, &request.path, need)?;
    Ok(NetworkRequest { stdin: written(&conf)?, conf, path: request.path.clone() })
}

/// The state that a configuration carries.
pub(super) fn state(conf: &NetConf) -> Result<Option<OverlayState>, Error> {
    let state = conf.raw.get(STATE).cloned().map(serde_json::from_value).transpose();
    Ok(state.map_err(|source| Cause::Decode(zeugma_protocol::DecodeError::NotJson { source }))?)
}

fn written(conf: &NetConf) -> Result<Vec<u8>, Error> {
    let written = serde_json::to_vec(&conf.raw);
    Ok(written.map_err(|source| Cause::Decode(zeugma_protocol::DecodeError::NotJson { source }))?)
}

fn told(conf: &NetConf, path: &[PathBuf], need: Need) -> Result<NetConf, Error> {
    let raw: Raw = conf.plugin_config()?;
    let network = match raw.network.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => name.parse().map_err(Error::Network)?,
        None => conf.name.clone(),
    };
    let state = match (need, read(&network)) {
        (Need::State, state) => Some(state?),
        // A state that nobody can read keeps no container.
        (Need::Nothing, state) => state.ok(),
    };
    let ipam =
        if delegate::find("zeugma-host-local", path).is_ok() { "zeugma-host-local" } else { "host-local" };
    Ok(as_bridge(conf, &raw, (&network, state.as_ref()), ipam))
}

fn read(network: &NetworkName) -> Result<OverlayState, Error> {
    let states = OverlayStates::default();
    let state = states.read(network)?;
    let state =
        state.ok_or_else(|| Error::NoState { network: network.clone(), file: states.path(network) })?;
    if state.blocks.is_empty() {
        return Err(Error::NoBlock { network: network.clone() });
    }
    Ok(state)
}

/// The configuration with the keys of `bridge` and `host-local` in the place of ours.
fn as_bridge(
    conf: &NetConf,
    raw: &Raw,
    (network, state): (&NetworkName, Option<&OverlayState>),
    ipam: &str,
) -> NetConf {
    let is_common = |key: &str| COMMON.iter().any(|common| common.eq_ignore_ascii_case(key));
    let common = conf.raw.iter().filter(|(key, _)| is_common(key));
    let mut keys: Map<String, Value> = common.map(|(key, value)| (key.clone(), value.clone())).collect();
    let bridge = state.map_or_else(|| network.bridge(), |state| state.bridge.clone());
    keys.insert("bridge".into(), json!(bridge));
    let mut ipam: Map<String, Value> = Map::from_iter([("type".into(), json!(ipam))]);
    if let Some(folder) = &raw.data_dir {
        ipam.insert("dataDir".into(), json!(folder));
    }
    if let Some(state) = state {
        keys.insert(if state.internal { "isGateway" } else { "isDefaultGateway" }.into(), json!(true));
        keys.insert("mtu".into(), json!(state.mtu));
        keys.insert(STATE.into(), json!(state));
        ipam.insert("ranges".into(), json!(ranges(state)));
        ipam.insert("routes".into(), json!(routes(state, raw)));
    }
    keys.insert("ipam".into(), Value::Object(ipam.clone()));
    NetConf { ipam: Some(ipam), raw: keys, ..conf.clone() }
}

/// A set of ranges for each family: a container gets one address of each.
fn ranges(state: &OverlayState) -> Vec<Vec<Value>> {
    let of_family = |is_v4: bool| {
        state.blocks.iter().filter(|block| block.is_ipv4() == is_v4).map(range).collect::<Vec<_>>()
    };
    [true, false].map(of_family).into_iter().filter(|ranges| !ranges.is_empty()).collect()
}

/// The first address is the host's own on the tunnel, the second the bridge's.
fn range(block: &IpNetwork) -> Value {
    json!({"subnet": block, "gateway": nth(block, 1), "rangeStart": nth(block, 2)})
}

fn nth(block: &IpNetwork, number: u8) -> IpAddr {
    match block.network() {
        IpAddr::V4(first) => IpAddr::V4(u32::from(first).saturating_add(number.into()).into()),
        IpAddr::V6(first) => IpAddr::V6(u128::from(first).saturating_add(number.into()).into()),
    }
}

/// Those to the other hosts' parts, as the default route of a container may be another network's, and those that are
/// asked for.
fn routes(state: &OverlayState, raw: &Raw) -> Vec<Value> {
    let own = state.subnets.iter().filter(|subnet| {
        // A subnet that is this host's alone is on link.
        let is_whole = state.blocks.contains(subnet);
        !is_whole && state.blocks.iter().any(|block| block.is_ipv4() == subnet.is_ipv4())
    });
    let own = own.map(|subnet| json!({"dst": subnet}));
    own.chain(raw.routes.iter().flatten().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(keys: Value) -> OverlayState {
        let mut state = json!({"network": "front", "backend": "vxlan", "subnets": ["10.90.0.0/16", "fd00:90::/56"],
            "blocks": ["10.90.3.0/24", "fd00:90:0:3::/64", "10.90.9.0/24"], "mtu": 1450, "bridge": "br-front",
            "tunnel": "vx-front", "masquerade": true});
        state.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        serde_json::from_value(state).unwrap()
    }

    fn rewritten(conf: Value, state: Option<&OverlayState>) -> Map<String, Value> {
        let conf = NetConf::parse(conf.to_string().as_bytes()).unwrap();
        let raw = conf.plugin_config().unwrap();
        as_bridge(&conf, &raw, (&conf.name, state), "host-local").raw
    }

    fn conf() -> Value {
        json!({"cniVersion": "1.0.0", "name": "front", "type": "zeugma-overlay"})
    }

    #[test]
    fn the_state_becomes_a_bridge_with_ranges() {
        let told = rewritten(conf(), Some(&state(json!({}))));
        let ranges = json!([
            [{"subnet": "10.90.3.0/24", "gateway": "10.90.3.1", "rangeStart": "10.90.3.2"},
             {"subnet": "10.90.9.0/24", "gateway": "10.90.9.1", "rangeStart": "10.90.9.2"}],
            [{"subnet": "fd00:90:0:3::/64", "gateway": "fd00:90:0:3::1", "rangeStart": "fd00:90:0:3::2"}],
        ]);
        let routes = json!([{"dst": "10.90.0.0/16"}, {"dst": "fd00:90::/56"}]);
        assert_eq!(told["ipam"], json!({"type": "host-local", "ranges": ranges, "routes": routes}));
        let keys = ["bridge", "isDefaultGateway", "mtu"].map(|key| told[key].clone());
        assert_eq!(keys, [json!("br-front"), json!(true), json!(1450)]);
        assert_eq!(told.get("ipMasq"), None);
    }

    #[test]
    fn a_subnet_that_is_one_host_s_block_needs_no_route() {
        let told = rewritten(conf(), Some(&state(json!({"blocks": ["10.90.0.0/16"]}))));
        assert_eq!(told["ipam"]["routes"], json!([]));
    }

    #[test]
    fn an_internal_overlay_has_routes_to_itself_alone() {
        let told = rewritten(conf(), Some(&state(json!({"internal": true}))));
        assert_eq!((told.get("isDefaultGateway"), &told["isGateway"]), (None, &json!(true)));
        assert_eq!(told["ipam"]["routes"], json!([{"dst": "10.90.0.0/16"}, {"dst": "fd00:90::/56"}]));
    }

    #[test]
    fn what_goes_needs_no_state() {
        let told = rewritten(conf(), None);
        assert_eq!((&told["bridge"], &told["ipam"]), (&json!("br-front"), &json!({"type": "host-local"})));
    }

    #[test]
    fn keys_of_bridge_are_no_keys_of_overlay() {
        let mut conf = conf();
        conf["vlan"] = json!(7);
        conf["ipMasq"] = json!(true);
        conf["runtimeConfig"] = json!({"ips": ["10.90.3.7"]});
        let told = rewritten(conf, Some(&state(json!({}))));
        assert_eq!((told.get("vlan"), told.get("ipMasq")), (None, None));
        assert_eq!(told["runtimeConfig"]["ips"][0], "10.90.3.7");
    }
}
