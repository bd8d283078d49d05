//! What the tests of the promises share: where our executables are, and the black-box conformance suite.
//! The promises themselves are in `tests/`; worlds to run them in come from `netns-fixtures`.

pub mod agent;
pub mod bus;
pub mod cluster;
pub mod conformance;
pub mod keeper;
pub mod lab;
pub mod overlays;
pub mod stage;
pub mod wireguard;

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

/// Every plugin that `zeugma-cni` acts as.
pub const PLUGINS: &[&str] = &[
    "bandwidth",
    "bridge",
    "dhcp",
    "dnsname",
    "dummy",
    "firewall",
    "host-device",
    "host-local",
    "ipvlan",
    "loopback",
    "macvlan",
    "overlay",
    "portmap",
    "ptp",
    "resolver",
    "sbr",
    "static",
    "tap",
    "tuning",
    "vlan",
    "vrf",
];

static BIN_DIR: OnceLock<PathBuf> = OnceLock::new();

/// From now on [`bin_dir`] is this, unless it was asked for before: for a bench, which takes what is shipped.
pub fn use_bin_dir(path: PathBuf) {
    let _ = BIN_DIR.set(path);
}

/// The directory with our executables under all their names (`bridge`, `zeugma-bridge`, …, `zeugma-cni`,
/// `zeugma`): `ZEUGMA_BIN_DIR` when set, otherwise built once per process.
///
/// # Panics
/// When the build fails: no test means anything then.
pub fn bin_dir() -> &'static Path {
    BIN_DIR.get_or_init(|| match env::var_os("ZEUGMA_BIN_DIR") {
        Some(dir) => dir.into(),
        None => built().unwrap_or_else(|error| panic!("build the executables under test: {error:?}")),
    })
}

/// Builds into the target directory that this very executable came from, and lays links into its `test-bin`.
fn built() -> Result<PathBuf> {
    let own = env::current_exe().context("find this executable")?;
    let target = own.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    let target = target.with_context(|| format!("{} is in no target directory", own.display()))?;
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "-p", "zeugma-plugins", "-p", "zeugma-cli"]);
    cargo.args(["--features", "zeugma-cli/etcd"]);
    cargo.arg("--manifest-path").arg(&manifest).arg("--target-dir").arg(target);
    let status = cargo.status().context("start cargo")?;
    ensure!(status.success(), "cargo build: {status}");
    let bin_dir = target.join("test-bin");
    fs::create_dir_all(&bin_dir)?;
    let plugin_names = PLUGINS.iter().flat_map(|plugin| [plugin.to_string(), format!("zeugma-{plugin}")]);
    for name in plugin_names.chain(["zeugma-cni".into()]) {
        link(&target.join("debug/zeugma-cni"), &bin_dir.join(name))?;
    }
    link(&target.join("debug/zeugma"), &bin_dir.join("zeugma"))?;
    Ok(bin_dir)
}

/// Replaces `name` at once, since other test processes may be using the directory.
fn link(executable: &Path, name: &Path) -> Result<()> {
    let fresh = name.with_extension(format!("new-{}", process::id()));
    symlink(executable, &fresh).with_context(|| format!("link {}", fresh.display()))?;
    fs::rename(&fresh, name).with_context(|| format!("place {}", name.display()))
}
