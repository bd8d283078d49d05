//! What was seen of a host: all that checks judge by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use zeugma_api::{OverlayView, Status};
use zeugma_kernel::{Disk, Listener};
use zeugma_model::{Backend, IfName, NetworkName, OverlayState, Protocol};

use crate::host::filters::Filters;
use crate::host::{Attached, Link};

/// A host at one moment.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// What could not be looked at, and why.
    pub(crate) unseen: Vec<String>,
    pub(crate) attached: Vec<Attached>,
    pub(crate) links: BTreeMap<IfName, Link>,
    /// The links of the default routes.
    pub(crate) uplink: Option<IfName>,
    /// The driver of that link.
    pub(crate) driver: Option<String>,
    /// By their files below /proc/sys; those that the kernel does not have are missing.
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) filters: Filters,
    /// Tables that iptables-legacy made.
    pub(crate) legacy: Vec<String>,
    /// Why there is no nftables.
    pub(crate) no_nftables: Option<String>,
    pub(crate) kernel: Features,
    pub(crate) lists: Vec<Listed>,
    pub(crate) overlays: Vec<OverlayState>,
    pub(crate) plugins: Plugins,
    pub(crate) agent: Agent,
    /// Those of the agent's catalogue; none: it did not say.
    pub(crate) networks: Option<BTreeSet<NetworkName>>,
    /// Where networks, services and keys are.
    pub(crate) state_dir: PathBuf,
    /// What is written to.
    pub(crate) disks: Vec<(PathBuf, Disk)>,
    pub(crate) is_clock_kept: bool,
    pub(crate) fills: Vec<Fill>,
    /// Ports of ours that a program has.
    pub(crate) taken: Vec<Taken>,
    /// What a repair would do, and could not do.
    pub(crate) repair: (Vec<String>, Vec<String>),
    /// Leases of containers that are not attached: their files.
    pub(crate) orphans: Vec<PathBuf>,
    /// Processes of `zeugma wg`, and their devices.
    pub(crate) wireguards: Vec<(u32, IfName)>,
}

/// What the kernel can do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Features {
    pub(crate) vxlan: bool,
    pub(crate) wireguard: bool,
    pub(crate) tun: bool,
}

/// A configuration list.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) network: NetworkName,
    pub(crate) path: PathBuf,
    /// The types of its plugins, IPAM's included, as they are written.
    pub(crate) types: Vec<String>,
    pub(crate) is_ours: bool,
    /// The bridge that it names, or would have.
    pub(crate) bridge: Option<IfName>,
    /// Of an overlay.
    pub(crate) tunnel: Option<Tunnel>,
}

/// An overlay's device, as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tunnel {
    pub(crate) link: IfName,
    pub(crate) backend: Backend,
    /// UDP.
    pub(crate) port: u16,
}

/// The plugin directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plugins {
    pub(crate) directory: PathBuf,
    /// By name: those that zeugma takes, and those that lists name.
    pub(crate) files: BTreeMap<String, Place>,
    /// Whether `zeugma-cni` there is another one than that beside this executable; none: one of them is missing.
    pub(crate) is_other_build: Option<bool>,
}

/// A name in the plugin directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Missing,
    /// A link whose end is missing.
    Dangling,
    Ours,
    Foreign,
}

/// The agent.
#[derive(Debug, Clone, Default)]
pub(crate) enum Agent {
    /// Nobody is at the socket.
    #[default]
    Away,
    /// Somebody is, and does not answer well.
    Silent(String),
    Answers(Box<Status>, Vec<OverlayView>),
}

/// How full something is.
#[derive(Debug, Clone)]
pub(crate) struct Fill {
    /// What.
    pub(crate) object: &'static str,
    pub(crate) used: u64,
    pub(crate) most: u64,
    /// What happens when it is full.
    pub(crate) then: &'static str,
    pub(crate) remedy: &'static str,
}

/// A port that a program has.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) protocol: Protocol,
    pub(crate) address: SocketAddr,
    pub(crate) by: Listener,
    pub(crate) purpose: Purpose,
}

/// Who needs a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A container publishes it.
    Published(String),
    /// Names of these networks are answered there.
    Names,
    /// Packets of this network come from other hosts there.
    Tunnel(NetworkName, Tunnel),
}

impl Observed {
    /// A sysctl as a number.
    pub(crate) fn number(&self, path: &str) -> Option<i64> {
        self.sysctls.get(path)?.parse().ok()
    }

    /// Containers that are there.
    pub(crate) fn living(&self) -> impl Iterator<Item = &Attached> {
        self.attached.iter().filter(|one| one.is_alive)
    }

    /// The MTU of the link that packets to other hosts leave by.
    pub(crate) fn underlay_mtu(&self) -> Option<(&IfName, u32)> {
        let uplink = self.uplink.as_ref()?;
        Some((uplink, self.links.get(uplink)?.state.mtu))
    }
}
