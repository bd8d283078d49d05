//! The way into a container: its interface, a socket on it, and its address when the lease is lost.
//!
//! Everything is opened when it is needed and closed afterwards: an open namespace would outlive its container.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use ipnetwork::IpNetwork;
use tokio::io::unix::AsyncFd;
use zeugma_dhcp::Outgoing;
use zeugma_journal::NetnsRef;
use zeugma_kernel::{Kernel, LinkState, Netns, PacketSocket};
use zeugma_model::{IfName, Mac};
use zeugma_plan::{LinkChange, Plan, Side, Step};

/// The port that servers send to.
const CLIENT_PORT: u16 = 68;
/// An Ethernet frame's worth.
const LONGEST: usize = 1500;

/// One interface of one container.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) netns: NetnsRef,
    ifname: IfName,
}

impl Container {
    pub(super) fn at(netns: &Path, ifname: &IfName) -> Result<Self> {
        // This says what is wrong with a path that is no namespace's.
        Netns::open(netns)?;
        let netns = NetnsRef::of(netns).with_context(|| format!("{} is gone", netns.display()))?;
        Ok(Self { netns, ifname: ifname.clone() })
    }

    pub(super) fn again(netns: NetnsRef, ifname: &IfName) -> Self {
        Self { netns, ifname: ifname.clone() }
    }

    /// Whether there is another namespace or none at its path, or no such interface in it. When the kernel does not
    /// say, it is taken to be there.
    pub(super) fn is_gone(&self) -> bool {
        let link = || Ok::<_, anyhow::Error>(self.kernel()?.link(Side::Container, &self.ifname)?);
        !self.netns.is_alive() || matches!(link(), Ok(None))
    }

    /// The interface's state and Ethernet address.
    pub(super) fn interface(&self) -> Result<(LinkState, Mac)> {
        let name = &self.ifname;
        let state = self.kernel()?.link(Side::Container, name)?;
        let state = state.with_context(|| {
            format!("there is no interface {name} in the container: dhcp needs it before it is asked for an address")
        })?;
        let mac = state.mac.ok_or_else(|| anyhow!("{name} has no Ethernet address: dhcp cannot serve it"))?;
        Ok((state, mac))
    }

    pub(super) fn set_up(&self) -> Result<()> {
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        let step = Step::SetLink(Side::Container, self.ifname.clone(), up);
        Ok(self.kernel()?.apply(&Plan::from_iter([step]))?)
    }

    /// Takes an address off the interface; the container may not use it any more.
    pub(super) fn take_away(&self, address: IpNetwork) -> Result<()> {
        let step = Step::DeleteAddress(Side::Container, self.ifname.clone(), address);
        Ok(self.kernel()?.apply(&Plan::from_iter([step]))?)
    }

    pub(super) fn wire(&self) -> Result<Wire> {
        let (state, _) = self.interface()?;
        let netns = Netns::open(&self.netns.path)?;
        Wire::on(PacketSocket::open(&netns, state.index, CLIENT_PORT)?)
    }

    fn kernel(&self) -> Result<Kernel> {
        if !self.netns.is_alive() {
            bail!("the container's namespace {} is gone", self.netns.path.display());
        }
        Ok(Kernel::with_container(&self.netns.path)?)
    }
}

/// The network on the interface.
pub(super) struct Wire {
    socket: AsyncFd<PacketSocket>,
}

impl Wire {
    #[expect(
        deprecated,
        reason = "its successor is unsafe and asks that the descriptor stays the same, as a PacketSocket's does"
    )]
    fn on(socket: PacketSocket) -> Result<Self> {
        Ok(Self { socket: AsyncFd::new(socket)? })
    }

    pub(super) fn send(&self, outgoing: &Outgoing) -> std::io::Result<()> {
        self.socket.get_ref().send(outgoing.to, &outgoing.packet)
    }

    /// The next packet to the client's port, and the Ethernet address that it came from.
    pub(super) async fn receive(&self) -> std::io::Result<(Vec<u8>, Mac)> {
        let mut buffer = vec![0; LONGEST];
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(received) = ready.try_io(|socket| socket.get_ref().receive(&mut buffer)) {
                let (length, from) = received?;
                buffer.truncate(length);
                return Ok((buffer, from));
            }
        }
    }
}
