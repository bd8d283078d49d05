//! The CNI executables under test and the configuration handed to the runtimes. Not how any
//! plugin works.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::Node;

/// The names a runtime calls by itself or by the configurations of these tests.
const NAMES: &[&str] = &["bridge", "firewall", "host-local", "loopback", "portmap", "static", "tuning"];

/// The directory of executables under test.
pub struct Plugins {
    dir: PathBuf,
}

impl Plugins {
    /// The directory named by the environment.
    pub fn find() -> Result<Self> {
        let dir =
            ["ZEUGMA_RUNTIME_TESTS_BIN_DIR", "ZEUGMA_BIN_DIR"].iter().find_map(std::env::var_os).context(
                "neither ZEUGMA_RUNTIME_TESTS_BIN_DIR nor ZEUGMA_BIN_DIR names a directory of plugins",
            )?;
        let dir = PathBuf::from(dir);
        ensure!(dir.is_absolute(), "{} must be an absolute path", dir.display());
        let present = dir.join("bridge").exists() || dir.join("zeugma-cni").exists();
        ensure!(present, "neither `bridge` nor `zeugma-cni` is in {}", dir.display());
        Ok(Self { dir })
    }

    /// Whether zeugma is under test; promises that the reference plugins do not keep are claimed only then.
    pub fn are_ours(&self) -> bool {
        self.dir.join("zeugma-cni").exists()
    }

    /// Puts the plugins into the node's `/opt/cni/bin` under their plain names.
    pub fn install(&self, node: &Node) -> Result<()> {
        for name in NAMES {
            symlink(self.executable(name), node.path(&format!("/opt/cni/bin/{name}")))
                .with_context(|| format!("linking {name}"))?;
        }
        Ok(())
    }

    /// The executable `zeugma` that came with the plugins.
    pub fn zeugma(&self) -> PathBuf {
        self.dir.join("zeugma")
    }

    /// Installs them on the node as a person does: by `zeugma install --replace`.
    pub fn install_by_command(&self, node: &Node) -> Result<()> {
        let (zeugma, from) = (self.zeugma(), self.dir.join("zeugma-cni"));
        let words =
            [zeugma.as_os_str(), "install".as_ref(), "--replace".as_ref(), "--from".as_ref(), from.as_ref()];
        let words: Option<Vec<&str>> = words.into_iter().map(std::ffi::OsStr::to_str).collect();
        node.command(&words.context("the directory of plugins has a name in UTF-8")?).map(drop)
    }

    fn executable(&self, name: &str) -> PathBuf {
        let own = self.dir.join(name);
        let multicall = || self.dir.join("zeugma-cni");
        if Path::exists(&own) { own } else { multicall() }
    }
}

/// A network in the words of the specification 1.0.0, with everything a runtime publishes ports through.
pub fn conflist(name: &str, bridge: &str, subnet: &str) -> String {
    serde_json::json!({
        "cniVersion": "1.0.0",
        "name": name,
        "plugins": [
            {
                "type": "bridge",
                "bridge": bridge,
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": subnet }]],
                    "routes": [{ "dst": "0.0.0.0/0" }]
                }
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
            { "type": "firewall" },
            { "type": "tuning" }
        ]
    })
    .to_string()
}
