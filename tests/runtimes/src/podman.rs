//! Podman on a node with the network backend "cni". Its configuration is the least that runs
//! without systemd.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{IMAGE, Node, Plugins, image};

/// `podman` with a store of its own; all of it ends with its node.
pub struct Podman<'a> {
    node: &'a Node,
}

impl<'a> Podman<'a> {
    /// Configures Podman for the plugins under test and loads the image.
    pub fn set_up(node: &'a Node) -> Result<Self> {
        Plugins::find()?.install(node)?;
        node.write("/run/node/containers.conf", CONTAINERS)?;
        node.write("/run/node/storage.conf", STORAGE)?;
        image::put(node)?;
        let podman = Self { node };
        podman.run(&["load", "--quiet", "--input", image::ARCHIVE])?;
        Ok(podman)
    }

    /// Runs `podman` with `args`.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let podman = [
            "env",
            "CONTAINERS_CONF=/run/node/containers.conf",
            "CONTAINERS_STORAGE_CONF=/run/node/storage.conf",
            "podman",
        ];
        self.node.command(&[&podman, args].concat())
    }

    /// `podman run -d`: a container called `name` that says its name on port 80. Gives its id.
    pub fn serve(&self, name: &str, options: &[&str]) -> Result<String> {
        let cgroup = format!("--cgroup-parent=/{}", self.node.name());
        let command = crate::serve(name);
        let run = ["run", "--detach", "--name", name, &cgroup];
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        self.run(&[&run[..], options, &[IMAGE], &command].concat())
    }

    /// `podman inspect`: what is said of a container's attachment to `network`.
    pub fn attachment(&self, container: &str, network: &str) -> Result<Value> {
        let answer: Value = serde_json::from_str(&self.run(&["container", "inspect", container])?)?;
        let networks = &answer[0]["NetworkSettings"]["Networks"];
        networks.get(network).cloned().with_context(|| format!("{container} is not on {network}: {networks}"))
    }

    /// The container's address on `network`.
    pub fn address(&self, container: &str, network: &str) -> Result<String> {
        let attachment = self.attachment(container, network)?;
        Ok(attachment["IPAddress"].as_str().context("an attachment has an address")?.to_owned())
    }
}

const CONTAINERS: &str = r#"[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
"#;

const STORAGE: &str = r#"[storage]
driver = "overlay"
graphroot = "/run/node/storage"
runroot = "/run/node/storage-run"
"#;
