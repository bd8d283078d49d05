//! Numbers that overlays must not share: VXLAN network identifiers, and the ports of WireGuard devices.

use std::num::NonZeroU16;

use zeugma_model::{Backend, Network, NetworkName, OverlayOptions, Vni};

/// The first network identifier that is given out: where Docker begins, too, well behind those of VLANs.
const FIRST_VNI: u32 = 4096;
/// The first port that is given out: the usual one of WireGuard.
const FIRST_PORT: u16 = 51820;

/// Why an overlay cannot be beside others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Frames of two networks would be taken for one another's.
    #[error(
        "network {network}: the network identifier {vni} is that of network {other}: take another (--opt vni=…)"
    )]
    Vni {
        /// The new network.
        network: NetworkName,
        /// The identifier.
        vni: Vni,
        /// Who has it.
        other: NetworkName,
    },
    /// Two devices cannot listen at one port.
    #[error("network {network}: UDP port {port} is that of network {other}: take another (--opt port=…)")]
    Port {
        /// The new network.
        network: NetworkName,
        /// The port.
        port: NonZeroU16,
        /// Who has it.
        other: NetworkName,
    },
    /// Nothing is left.
    #[error("network {0}: no network identifier or port is free: remove overlays that nobody needs")]
    Full(NetworkName),
}

/// The overlay with a network identifier and a port that none of `others` has, where it needs them; as it is with
/// another driver.
///
/// # Errors
/// When it names one that another has.
pub fn numbered(network: Network, others: &[Network]) -> Result<Network, NumberError> {
    let Some(options) = network.overlay() else { return Ok(network) };
    let overlays = || others.iter().filter_map(|other| Some((&other.name, other.overlay()?)));
    let of_vni = |vni: Vni| overlays().find(|(_, other)| other.vni() == Some(vni));
    let of_port = |port: NonZeroU16| {
        overlays().find(|(_, other)| other.port() == Some(port) && !may_share(options, other))
    };
    if let Some((vni, (other, _))) = options.vni().and_then(|vni| Some((vni, of_vni(vni)?))) {
        return Err(NumberError::Vni { network: network.name.clone(), vni, other: other.clone() });
    }
    if let Some((port, (other, _))) = options.port().and_then(|port| Some((port, of_port(port)?))) {
        return Err(NumberError::Port { network: network.name.clone(), port, other: other.clone() });
    }
    let full = || NumberError::Full(network.name.clone());
    let mut vnis = (FIRST_VNI..1 << 24).filter_map(|number| Vni::try_from(number).ok());
    let vni = vnis.find(|vni| of_vni(*vni).is_none()).ok_or_else(full)?;
    let mut ports = (FIRST_PORT..=u16::MAX).filter_map(NonZeroU16::new);
    let port = ports.find(|port| of_port(*port).is_none()).ok_or_else(full)?;
    Ok(network.allocated(vni, port))
}

/// Frames of all networks come in at one port: the identifier tells them apart.
fn may_share(one: &OverlayOptions, other: &OverlayOptions) -> bool {
    [one, other].iter().all(|options| options.backend != Backend::Wireguard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn overlay(name: &str, options: Value) -> Network {
        serde_json::from_value(json!({"name": name, "driver": "overlay", "options": options})).unwrap()
    }

    fn numbers(options: Value, others: &[Network]) -> Result<(Option<u32>, Option<u16>), String> {
        let network = numbered(overlay("new", options), others).map_err(|error| error.to_string())?;
        let options = network.overlay().unwrap();
        Ok((options.vni().map(Vni::get), options.port().map(NonZeroU16::get)))
    }

    #[test]
    fn the_first_number_that_nobody_has_is_given() {
        let others =
            [overlay("a", json!({"vni": "4096"})), overlay("b", json!({"encrypted": "", "port": "51820"}))];
        assert_eq!(numbers(json!({}), &[]), Ok((Some(4096), Some(4789))));
        assert_eq!(numbers(json!({}), &others), Ok((Some(4097), Some(4789))));
        assert_eq!(numbers(json!({"encrypted": ""}), &others), Ok((None, Some(51821))));
        assert_eq!(numbers(json!({"backend": "host-gw"}), &others), Ok((None, None)));
    }

    #[test]
    fn a_number_that_is_named_is_nobody_else_s() {
        let others = [
            overlay("a", json!({"vni": "7", "port": "8472"})),
            overlay("b", json!({"encrypted": "", "port": "5000"})),
        ];
        let refused = |options: Value| numbers(options, &others).unwrap_err();
        assert!(refused(json!({"vni": "7"})).contains("of network a"));
        assert!(refused(json!({"port": "5000"})).contains("of network b"));
        assert!(refused(json!({"encrypted": "", "port": "8472"})).contains("of network a"));
        assert_eq!(numbers(json!({"port": "8472"}), &others), Ok((Some(4096), Some(8472))));
    }
}
