//! What `dhcp` needs around it: a network with a server (dnsmasq), interfaces in the containers, and the daemon that
//! stands beside the executables: `zeugma dhcp`, or the reference's `dhcp daemon`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use netns_fixtures::{Attachment, Host, Running, World, eventually};

/// A switch with a DHCP server on it, away from the host, whose residue is looked at.
pub(super) struct Network {
    switch: Host,
    /// Where the daemon is asked.
    pub(super) socket: PathBuf,
    _server: Running,
    _daemon: Running,
}

impl Network {
    pub(super) fn new(world: &World, bin_dir: &Path, is_ours: bool) -> Result<Network> {
        let (switch, node) = (world.host("switch")?, world.host("dhcp-daemon")?);
        switch.ip("link add br0 type bridge")?;
        switch.ip("addr add 10.88.0.1/24 dev br0")?;
        switch.ip("link set br0 up")?;
        let server = serve(&switch)?;
        let socket = node.run_dir().join("dhcp.sock");
        let daemon = if is_ours {
            node.command(bin_dir.join("zeugma")).args(["dhcp", "--socketpath"])
        } else {
            node.command(bin_dir.join("dhcp")).args(["daemon", "-socketpath"])
        };
        let daemon = daemon.arg(&socket).spawn()?;
        ensure!(eventually(Duration::from_secs(5), || socket.exists()), "the daemon: {}", daemon.log());
        Ok(Network { switch, socket, _server: server, _daemon: daemon })
    }

    /// Gives a container the interface that an interface plugin would have made.
    pub(super) fn join(&self, world: &World, container: &Attachment) -> Result<()> {
        let port = container.id();
        world.link((&self.switch, port, ""), (container.container(), container.ifname(), ""))?;
        self.switch.ip(&format!("link set {port} master br0")).map(drop)
    }

    /// Whether the server has a lease of the container on the network `net`.
    pub(super) fn has_leased(&self, container: &Attachment) -> bool {
        let id = format!("{}/net/{}", container.id(), container.ifname());
        let hex: Vec<String> = id.bytes().map(|byte| format!("{byte:02x}")).collect();
        fs::read_to_string(leases(&self.switch)).is_ok_and(|file| file.contains(&hex.join(":")))
    }
}

fn leases(switch: &Host) -> PathBuf {
    switch.run_dir().join("leases")
}

fn serve(switch: &Host) -> Result<Running> {
    let words = [
        "--no-daemon",
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=br0",
        "--bind-interfaces",
        "--no-ping",
        "--user=root",
        "--pid-file=",
        "--dhcp-authoritative",
        "--dhcp-range=10.88.0.20,10.88.0.90,255.255.255.0,2m",
    ];
    let file = format!("--dhcp-leasefile={}", leases(switch).display());
    let server = switch.command("dnsmasq").args(words).arg(file).spawn()?;
    let serves = eventually(Duration::from_secs(5), || server.log().contains("sockets bound"));
    ensure!(serves, "dnsmasq: {}", server.log());
    Ok(server)
}
