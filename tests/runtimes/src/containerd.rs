//! containerd on a node, started by hand, with the CRI plugin and `ctr`. The client that
//! speaks CRI is in `cri.rs`.

use anyhow::{Result, ensure};
use netns_fixtures::Running;

use crate::{Cri, IMAGE, Node, Plugins, eventually, image};

const SOCKET: &str = "/run/node/containerd.sock";
const DIRECTORY: &str = "/run/node/containerd";
/// Writes its process id, as the node counts, to a file and becomes containerd.
const DAEMON: &str = "echo $$ >/run/node/containerd.pid; exec containerd --config /run/node/containerd.toml";

/// A running containerd; it ends with its node.
pub struct Containerd<'a> {
    node: &'a Node,
    daemon: Running,
}

impl<'a> Containerd<'a> {
    /// Starts containerd with the plugins under test and `conflist` as its only network.
    pub fn start(node: &'a Node, conflist: &str) -> Result<Self> {
        Plugins::find()?.install(node)?;
        node.write("/etc/cni/net.d/10-test.conflist", conflist)?;
        node.write("/run/node/containerd.toml", config())?;
        image::put(node)?;
        let daemon = node.spawn(&["sh", "-c", DAEMON])?;
        let containerd = Self { node, daemon };
        containerd.answers()?;
        for namespace in ["k8s.io", node.name()] {
            containerd.ctr(namespace, &["images", "import", image::ARCHIVE])?;
        }
        Ok(containerd)
    }

    /// Ends containerd and starts it again, as an upgrade of it does; containers go on meanwhile.
    pub fn restart(&mut self) -> Result<()> {
        self.node.command(&["sh", "-c", "kill \"$(cat /run/node/containerd.pid)\""])?;
        eventually("containerd ends", || {
            ensure!(!self.daemon.is_running(), "it runs");
            Ok(())
        })?;
        self.daemon = self.node.spawn(&["sh", "-c", DAEMON])?;
        self.answers()
    }

    fn answers(&self) -> Result<()> {
        eventually("containerd answers", || self.ctr("k8s.io", &["version"]))?;
        Ok(())
    }

    /// `ctr` in one of containerd's namespaces.
    pub fn ctr(&self, namespace: &str, args: &[&str]) -> Result<String> {
        self.node.command(&[&["ctr", "--address", SOCKET, "--namespace", namespace], args].concat())
    }

    /// A client of its CRI, as a kubelet has one.
    pub fn cri(&self) -> Result<Cri> {
        eventually("CRI is ready and knows the image", || {
            let cri = Cri::connect(&self.node.path(SOCKET), self.node.name())?;
            cri.ready(IMAGE)?;
            Ok(cri)
        })
    }
}

/// `restrict_oom_score_adj`, because containers (where CI runs) may not lower it.
fn config() -> String {
    format!(
        r#"version = 2
root = "{DIRECTORY}/root"
state = "{DIRECTORY}/state"
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "{IMAGE}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"#
    )
}
