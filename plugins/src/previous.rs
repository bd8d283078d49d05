//! What chained plugins take from the result of those before them.

use ipnetwork::IpNetwork;
use zeugma_model::IfName;
use zeugma_protocol::{CniCode, CniResult, Code};
use zeugma_skel::Request;

/// `prevResult` is missing, or lacks something.
#[derive(Debug, thiserror::Error)]
pub enum PreviousError {
    /// No `prevResult` at all.
    #[error("{plugin} must be called as a chained plugin: put it behind bridge or another interface plugin")]
    NotChained {
        /// The plugin.
        plugin: &'static str,
    },
    /// CHECK without `prevResult`.
    #[error("CHECK of {plugin} needs prevResult: the runtime passes the result of ADD")]
    NoResultToCheck {
        /// The plugin.
        plugin: &'static str,
    },
    /// No host interface in it.
    #[error("prevResult names no interface of the host, such as a bridge: {plugin} has nothing to work on")]
    NoHostInterface {
        /// The plugin.
        plugin: &'static str,
    },
}

impl CniCode for PreviousError {
    fn code(&self) -> Code {
        match self {
            Self::NotChained { .. } | Self::NoResultToCheck { .. } | Self::NoHostInterface { .. } => {
                Code::InvalidNetworkConfig
            }
        }
    }
}

/// `prevResult` of an ADD.
pub(crate) fn chained<'a>(
    request: &'a Request,
    plugin: &'static str,
) -> Result<&'a CniResult, PreviousError> {
    request.conf.prev_result.as_ref().ok_or(PreviousError::NotChained { plugin })
}

/// `prevResult` of a CHECK.
pub(crate) fn checked<'a>(
    request: &'a Request,
    plugin: &'static str,
) -> Result<&'a CniResult, PreviousError> {
    request.conf.prev_result.as_ref().ok_or(PreviousError::NoResultToCheck { plugin })
}

/// The host's interfaces, in order: of `bridge` the bridge and the container's veth.
pub(crate) fn host_interfaces(result: &CniResult) -> impl Iterator<Item = IfName> {
    result
        .interfaces
        .iter()
        .filter(|interface| interface.sandbox.as_ref().is_none_or(String::is_empty))
        .filter_map(|interface| interface.name.parse().ok())
}

/// The host's interface that the container's packets come in by: the bridge, or its gateway in a VLAN
/// (`BRIDGE.VLAN`), which is a link of its own.
pub(crate) fn way_in(result: &CniResult) -> Option<IfName> {
    let bridge = host_interfaces(result).next()?;
    let in_vlan = |name: &IfName| {
        let vlan = name.as_str().strip_prefix(bridge.as_str()).and_then(|rest| rest.strip_prefix('.'));
        vlan.is_some_and(|vlan| vlan.parse::<u16>().is_ok())
    };
    host_interfaces(result).find(in_vlan).or(Some(bridge))
}

/// The addresses inside the container, or all when the result does not say where they are.
pub(crate) fn container_addresses(result: &CniResult) -> Vec<IpNetwork> {
    let is_inside = |index: usize| {
        result
            .interfaces
            .get(index)
            .is_none_or(|interface| interface.sandbox.as_ref().is_some_and(|path| !path.is_empty()))
    };
    result.ips.iter().filter(|ip| ip.interface.is_none_or(is_inside)).map(|ip| ip.address).collect()
}

/// The addresses inside the container by `prevResult`; none when a DEL comes without it.
pub(crate) fn last_addresses(request: &Request) -> Vec<IpNetwork> {
    request.conf.prev_result.as_ref().map(container_addresses).unwrap_or_default()
}
