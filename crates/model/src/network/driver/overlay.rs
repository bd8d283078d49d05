//! What is particular to an overlay: how its packets get to other hosts, and what of it is agreed on by all of them.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;

use super::{Backend, NetworkError, NetworkName, Options, Vni};

/// Where VXLAN packets are sent to unless told: the port that IANA gave (RFC 7348, 8).
const VXLAN_PORT: u16 = 4789;
/// Prefix lengths of blocks unless told: 253 containers on a host, or as many as a link has.
const BLOCK_V4: u8 = 24;
const BLOCK_V6: u8 = 64;
/// Prefix lengths of blocks that can be asked for: five addresses for containers at least.
const BLOCKS_V4: RangeInclusive<u8> = 8..=29;
const BLOCKS_V6: RangeInclusive<u8> = 16..=124;

/// The options that an overlay has. Docker's words, where it has any.
pub(super) const OPTIONS: &[&str] = &[
    "backend",
    "encrypted",
    "vni",
    "com.docker.network.driver.overlay.vxlanid_list",
    "port",
    "block",
    "block6",
    "reachable_from",
    "com.docker.network.bridge.enable_ip_masquerade",
];

/// What is particular to an overlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayOptions {
    /// How its packets get to other hosts.
    pub backend: Backend,
    /// Its VXLAN network identifier; none: none is allocated yet, or its backend has none.
    pub vni: Option<Vni>,
    /// Where its packets are sent to, UDP; none: none is allocated yet, or the backend's usual one.
    pub port: Option<NonZeroU16>,
    /// Prefix length of the part of an IPv4 subnet that a node takes: see [`OverlayOptions::block`].
    pub block_v4: u8,
    /// Prefix length of the part of an IPv6 subnet that a node takes: see [`OverlayOptions::block`].
    pub block_v6: u8,
    /// Whether the outside sees the host's address.
    pub masquerade: bool,
    /// Overlays whose containers may open connections to this one's; others may not.
    pub reachable_from: BTreeSet<NetworkName>,
}

impl OverlayOptions {
    /// Its VXLAN network identifier, once it is allocated; none with a backend that makes no frames.
    pub fn vni(&self) -> Option<Vni> {
        self.vni.filter(|_| self.has_frames())
    }

    /// Where its packets are sent to, UDP; none while none is allocated, and with a backend that makes no datagrams.
    pub fn port(&self) -> Option<NonZeroU16> {
        match self.backend {
            Backend::Vxlan | Backend::Auto => self.port.or(NonZeroU16::new(VXLAN_PORT)),
            Backend::Wireguard => self.port,
            Backend::HostGw => None,
        }
    }

    /// Whether a network identifier has to be allocated for it.
    pub fn needs_vni(&self) -> bool {
        self.has_frames() && self.vni.is_none()
    }

    /// Whether a port has to be allocated for it: a WireGuard device has one to itself.
    pub fn needs_port(&self) -> bool {
        self.backend == Backend::Wireguard && self.port.is_none()
    }

    /// Prefix length of the part of `subnet` that a node takes. A subnet that is no larger than such a part is divided
    /// into 16 (IPv4) or 256.
    pub fn block(&self, subnet: IpNetwork) -> u8 {
        let (wanted, bits, least) = match subnet {
            IpNetwork::V4(_) => (self.block_v4, 4, *BLOCKS_V4.end()),
            IpNetwork::V6(_) => (self.block_v6, 8, *BLOCKS_V6.end()),
        };
        if wanted > subnet.prefix() { wanted } else { (subnet.prefix() + bits).min(least) }
    }

    /// The longest prefix of a subnet that two nodes can take a part of.
    pub(in crate::network) fn longest(subnet: IpNetwork) -> u8 {
        let blocks = if subnet.is_ipv4() { BLOCKS_V4 } else { BLOCKS_V6 };
        blocks.end() - 1
    }

    fn has_frames(&self) -> bool {
        matches!(self.backend, Backend::Vxlan | Backend::Auto)
    }
}

pub(super) fn read(options: &Options<'_>) -> Result<OverlayOptions, NetworkError> {
    Ok(OverlayOptions {
        backend: backend(options)?,
        vni: vni(options)?,
        port: port(options)?,
        block_v4: block(options, "block", BLOCKS_V4)?.unwrap_or(BLOCK_V4),
        block_v6: block(options, "block6", BLOCKS_V6)?.unwrap_or(BLOCK_V6),
        masquerade: options.truth("com.docker.network.bridge.enable_ip_masquerade")?.unwrap_or(true),
        reachable_from: reachable_from(options)?,
    })
}

/// Docker's `--opt encrypted` has no value.
fn backend(options: &Options<'_>) -> Result<Backend, NetworkError> {
    let is_encrypted = match options.given.get("encrypted").map(String::as_str) {
        Some("") => true,
        _ => options.truth("encrypted")?.unwrap_or(false),
    };
    let Some(word) = options.given.get("backend") else {
        return Ok(if is_encrypted { Backend::Wireguard } else { Backend::default() });
    };
    let backend: Backend = word.parse().map_err(|error| options.wrong("backend", format!("{error}")))?;
    if is_encrypted && !backend.is_encrypted() {
        return Err(options.wrong("backend", "it is to be encrypted, which only wireguard is: leave one"));
    }
    Ok(backend)
}

fn vni(options: &Options<'_>) -> Result<Option<Vni>, NetworkError> {
    const DOCKER: &str = "com.docker.network.driver.overlay.vxlanid_list";
    let read = |option: &str| {
        let Some(number) = options.number(option)? else { return Ok(None) };
        Vni::try_from(number).map(Some).map_err(|error| options.wrong(option, format!("{error}")))
    };
    match (read("vni")?, read(DOCKER)?) {
        (Some(one), Some(other)) if one != other => Err(options.wrong("vni", format!("{DOCKER} is {other}"))),
        (one, other) => Ok(one.or(other)),
    }
}

fn port(options: &Options<'_>) -> Result<Option<NonZeroU16>, NetworkError> {
    let Some(number) = options.number("port")? else { return Ok(None) };
    let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
    port.map(Some).ok_or_else(|| options.wrong("port", "take 1 to 65535"))
}

fn block(options: &Options<'_>, option: &str, all: RangeInclusive<u8>) -> Result<Option<u8>, NetworkError> {
    let Some(number) = options.number(option)? else { return Ok(None) };
    let block = u8::try_from(number).ok().filter(|number| all.contains(number));
    let why = || format!("it is the prefix length of a node's part: take {} to {}", all.start(), all.end());
    block.map(Some).ok_or_else(|| options.wrong(option, why()))
}

/// Names, between commas.
fn reachable_from(options: &Options<'_>) -> Result<BTreeSet<NetworkName>, NetworkError> {
    let given = options.given.get("reachable_from").map_or("", String::as_str);
    let names = given.split(',').map(str::trim).filter(|name| !name.is_empty());
    let name = |text: &str| text.parse().map_err(|error| options.wrong("reachable_from", format!("{error}")));
    names.map(name).collect()
}
