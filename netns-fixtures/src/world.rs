//! A world: one private mount namespace with its own `/run`, in which all namespaces of a test live.
//! Links between hosts are made here too. What happens inside a host is in `host.rs`.

use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::{Host, eventually};

/// Where a world keeps its files. Every world sees its own: `/run` is a fresh tmpfs in each.
const WORLD_DIR: &str = "/run/world";
const NETNS_DIR: &str = "/run/netns";

/// Hosts and containers that exist as long as the closure given to [`run`] runs.
///
/// Use it (and its hosts) from the closure's thread and from threads started there: those alone see the
/// world's files.
#[derive(Debug)]
pub struct World {
    dir: PathBuf,
}

/// One end of a link: host, interface name and the addresses (with prefix length, separated by spaces).
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    host: &'a Host,
    ifname: &'a str,
    addresses: &'a str,
}

impl<'a> From<(&'a Host, &'a str, &'a str)> for End<'a> {
    fn from((host, ifname, addresses): (&'a Host, &'a str, &'a str)) -> Self {
        End { host, ifname, addresses }
    }
}

/// Runs `story` in a fresh world and panics with its error: the form for tests.
///
/// # Panics
/// When `story` fails or panics, or when this process may not make namespaces.
pub fn run(story: impl FnOnce(&World) -> Result<()> + Send) {
    if let Err(error) = try_run(story) {
        panic!("{error:?}");
    }
}

/// Runs `story` in a fresh world on a thread of its own and returns what it returns: the form for labs.
/// Nothing outlives the thread: no file, mount, namespace or process, also when the process is killed.
///
/// # Errors
/// Those of `story`, and missing rights (root, or root of a user namespace: `unshare -Urnm`).
pub fn try_run<T: Send>(story: impl FnOnce(&World) -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("world".into());
        let thread = thread.spawn_scoped(scope, || story(&World::create()?)).context("start a thread")?;
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

impl World {
    /// Takes this thread (never the process) into a mount namespace with an empty `/run`.
    fn create() -> Result<World> {
        unshare(CloneFlags::CLONE_NEWNS)
            .context("make a mount namespace: run as root or under `unshare -Urnm`")?;
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
            .context("make the mounts of this world private")?;
        mount(Some("world"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .context("mount a tmpfs on /run")?;
        // Hosts with files of their own are in mount namespaces below this one, and see containers that come later.
        mount(nothing, "/run", nothing, MsFlags::MS_SHARED, nothing).context("share /run with hosts")?;
        for dir in [WORLD_DIR, NETNS_DIR] {
            fs::create_dir(dir).with_context(|| format!("create {dir}"))?;
        }
        Ok(World { dir: WORLD_DIR.into() })
    }

    /// The directory for files of this world. It is a tmpfs, and other worlds have another at the same path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Lays a writable layer over `path` (a directory of the real machine): the world sees what is there,
    /// writes go to memory and vanish with the world. For programs with fixed paths, as `/var/lib/cni`.
    ///
    /// # Errors
    /// When the kernel has no overlayfs, or `path` is no directory.
    pub fn shadow(&self, path: &str) -> Result<()> {
        let layer = self.dir.join("shadow").join(path.trim_start_matches('/').replace('/', "-"));
        let (upper, work) = (layer.join("upper"), layer.join("work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        let options = format!("lowerdir={path},upperdir={},workdir={}", upper.display(), work.display());
        mount(Some("overlay"), path, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("lay a writable layer over {path}"))
    }

    /// A machine: a network namespace with `lo` up and forwarding off. `name` is unique in the world.
    ///
    /// # Errors
    /// When the name is taken or the kernel refuses.
    pub fn host(&self, name: &str) -> Result<Host> {
        let host = self.container(name)?;
        host.set_sysctl("net.ipv4.ip_forward", "0")?;
        host.ip("link set lo up")?;
        Ok(host)
    }

    /// What a runtime hands to CNI: a network namespace with nothing but `lo`, which is down.
    ///
    /// # Errors
    /// When the name is taken or the kernel refuses.
    pub fn container(&self, name: &str) -> Result<Host> {
        let path = Path::new(NETNS_DIR).join(name);
        ensure!(!path.exists(), "the world already has a host named {name}");
        let run_dir = self.dir.join("hosts").join(name);
        fs::create_dir_all(&run_dir)?;
        fs::File::create(&path)?;
        let pin = || -> Result<()> {
            unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
            let nothing = None::<&str>;
            mount(Some("/proc/thread-self/ns/net"), &path, nothing, MsFlags::MS_BIND, nothing)
                .with_context(|| format!("pin a network namespace at {}", path.display()))
        };
        thread::scope(|scope| scope.spawn(pin).join().unwrap_or_else(|panic| resume_unwind(panic)))?;
        Ok(Host::new(name, &path, &run_dir))
    }

    /// Joins two hosts with a veth pair, gives both ends their addresses (IPv6 without DAD) and sets them up.
    ///
    /// # Errors
    /// When an interface exists already or an address is malformed.
    pub fn link<'a>(&self, a: impl Into<End<'a>>, b: impl Into<End<'a>>) -> Result<()> {
        let (a, b) = (a.into(), b.into());
        let peer = b.host.path().display();
        a.host.ip(&format!("link add {} type veth peer name {} netns {peer}", a.ifname, b.ifname))?;
        [a, b].iter().try_for_each(End::set_up)?;
        [a, b].iter().try_for_each(End::give_addresses)?;
        [a, b].iter().try_for_each(End::await_ipv6)
    }
}

impl End<'_> {
    fn set_up(&self) -> Result<()> {
        self.host.ip(&format!("link set {} up", self.ifname)).map(drop)
    }

    fn give_addresses(&self) -> Result<()> {
        self.addresses.split_whitespace().try_for_each(|address| {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            self.host.ip(&format!("addr add {address} dev {} {nodad}", self.ifname)).map(drop)
        })
    }

    /// IPv6 hears nothing before the kernel has noticed the carrier, which it may do up to a second late.
    fn await_ipv6(&self) -> Result<()> {
        let line = format!("link show {}", self.ifname);
        let ready = || self.host.ip_json(&line).is_ok_and(|links| links[0]["operstate"] == "UP");
        let quick = !self.addresses.contains(':') || eventually(Duration::from_secs(5), ready);
        ensure!(quick, "{} on {} got no carrier", self.ifname, self.host.name());
        Ok(())
    }
}
