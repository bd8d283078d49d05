//! What the tests, the demo and the benchmarks use of Debian, and how it gets there.
//!
//! Only installs; starts no service: the machine's own network must stay as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::shell;

/// How to see that a package is there.
#[derive(Clone, Copy)]
enum Sign {
    /// An executable on PATH.
    Command(&'static str),
    /// A file at a fixed place.
    File(&'static str),
}
use Sign::{Command, File};

/// Package by the sign that it is there.
type Need = (Sign, &'static str);

/// Enough for namespaces, a ruleset to look at and a client.
const DEMO: &[Need] = &[
    (Command("unshare"), "util-linux"),
    (Command("ip"), "iproute2"),
    (Command("nft"), "nftables"),
    (Command("conntrack"), "conntrack"),
    (Command("ping"), "iputils-ping"),
    (Command("busybox"), "busybox-static"),
    (Command("curl"), "curl"),
];

/// What compiling all of the workspace takes besides Rust: the runtime tests speak CRI, and the store in etcd speaks
/// etcd, which both are protobuf.
const BUILD: &[Need] = &[
    (Command("protoc"), "protobuf-compiler"),
    (File("/usr/include/google/protobuf/descriptor.proto"), "libprotobuf-dev"),
    (Command("git"), "git"),
];

/// What the catalogue's store in etcd is tested with. Debian starts nothing of it here.
const ETCD: &[Need] = &[(Command("etcd"), "etcd-server"), (Command("etcdctl"), "etcd-client")];

/// What the peers and the real runtimes need besides.
const RUNTIMES: &[Need] = &[
    (File("/usr/lib/cni/bridge"), "containernetworking-plugins"),
    (Command("containerd"), "containerd"),
    (Command("runc"), "runc"),
    (Command("podman"), "podman"),
    (Command("buildah"), "buildah"),
    (Command("iptables"), "iptables"),
    (Command("dbus-daemon"), "dbus"),
    (Command("firewalld"), "firewalld"),
    (Command("dnsmasq"), "dnsmasq-base"),
    (Command("dig"), "bind9-dnsutils"),
    (Command("socat"), "socat"),
    (Command("jq"), "jq"),
    (Command("strace"), "strace"),
    (Command("wg"), "wireguard-tools"),
    (Command("tcpdump"), "tcpdump"),
    (Command("ethtool"), "ethtool"),
    (Command("iperf3"), "iperf3"),
    (Command("dnsperf"), "dnsperf"),
];

/// What the virtual machine is made with. Its kernel is not installed but unpacked: `vm::kernel`.
const VM: &[Need] = &[
    (Command("qemu-system-x86_64"), "qemu-system-x86"),
    (Command("depmod"), "kmod"),
    (Command("cpio"), "cpio"),
    (Command("xz"), "xz-utils"),
    (Command("strip"), "binutils"),
    (Command("setpriv"), "util-linux"),
    (Command("bridge"), "iproute2"),
    (Command("wg"), "wireguard-tools"),
];

/// Sees to it that the whole workspace compiles.
pub(crate) fn ensure_build() -> Result<()> {
    ensure_packages(&missing(BUILD))
}

/// Whether what speaks protobuf can be compiled.
pub(crate) fn has_protoc() -> bool {
    missing(BUILD).iter().all(|package| !package.contains("proto"))
}

/// Sees to it that the demo can run.
pub(crate) fn ensure_demo() -> Result<()> {
    let mut packages = missing(DEMO);
    packages.extend(missing(BUILD));
    packages.extend(missing(ETCD));
    ensure_packages(&packages)
}

/// Sees to it that everything can run.
pub(crate) fn ensure_all() -> Result<()> {
    let mut packages = missing(DEMO);
    packages.extend(missing(BUILD));
    packages.extend(missing(ETCD));
    packages.extend(missing(RUNTIMES));
    ensure_packages(&packages)
}

/// Sees to it that the virtual machine can run.
pub(crate) fn ensure_vm() -> Result<()> {
    let mut packages = missing(DEMO);
    packages.extend(missing(BUILD));
    packages.extend(missing(VM));
    ensure_packages(&packages)
}

/// Fetches the lists of what Debian has.
pub(crate) fn update_lists() -> Result<()> {
    shell::run(&mut apt(&["update", "-q"]))
}

/// Fails unless we are root, saying why that is asked.
pub(crate) fn ensure_root(what: &str) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "{what} makes network namespaces and has to run as root (without root: `cargo xtask test --quick`)"
    );
    Ok(())
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let absent = |sign: Sign| match sign {
        Command(name) => shell::which(name).is_none(),
        File(path) => !Path::new(path).exists(),
    };
    needs.iter().filter(|(sign, _)| absent(*sign)).map(|(_, package)| *package).collect()
}

fn ensure_packages(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let wanted = packages.join(" ");
    if shell::which("apt-get").is_none() {
        bail!("missing on this machine: {wanted} (Debian's names); without apt-get, install them by hand");
    }
    ensure!(
        nix::unistd::geteuid().is_root(),
        "missing: {wanted}; run as root, or apt-get install them first"
    );
    let _quiet = NoServices::begin()?;
    update_lists()?;
    let mut args = vec!["install", "-q", "-y", "--no-install-recommends"];
    args.extend(packages);
    shell::run(&mut apt(&args)).with_context(|| format!("could not install {wanted}"))
}

fn apt(args: &[&str]) -> std::process::Command {
    let mut command = shell::command("apt-get", args);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// While it lives, installing a package starts no service (firewalld would rewrite the machine's ruleset).
/// A policy that is already there is somebody's decision and stays.
struct NoServices {
    ours: bool,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn begin() -> Result<Self> {
        let ours = !Path::new(Self::POLICY).exists();
        if ours {
            // 101: "action forbidden by policy" (invoke-rc.d(8)).
            fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n").context("cannot keep services from starting")?;
            fs::set_permissions(Self::POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(Self::POLICY);
        }
    }
}
