//! A host: one network namespace, and how code and commands get into it.
//! What they are asked there is in `oracle.rs` (state) and `traffic.rs` (packets).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::{Attachment, Finished, HostCommand, Running};

/// A network namespace of a world: a machine, a router, a client or a container. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Host {
    place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    name: String,
    path: PathBuf,
    run_dir: PathBuf,
    /// What its programs see at a path instead of the world's.
    own: Mutex<Vec<(PathBuf, PathBuf)>>,
}

impl Host {
    /// The namespace pinned at `path`.
    pub(crate) fn new(name: &str, path: &Path, run_dir: &Path) -> Host {
        let place =
            Place { name: name.into(), path: path.into(), run_dir: run_dir.into(), own: Mutex::default() };
        Host { place: Arc::new(place) }
    }

    /// Unpins the namespace, as a runtime does with a container that died: it ends with the last process
    /// and server in it, and its path is gone. Nothing works in this host any more.
    ///
    /// # Errors
    /// When it was removed before.
    pub fn remove(&self) -> Result<()> {
        let path = self.path();
        umount2(path, MntFlags::MNT_DETACH).with_context(|| format!("unpin {}", path.display()))?;
        fs::remove_file(path).with_context(|| format!("remove {}", path.display()))
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// The file that stands for the namespace: what CNI calls `CNI_NETNS`.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// This host's own directory for state; commands get it as `ZEUGMA_RUN_DIR`.
    pub fn run_dir(&self) -> &Path {
        &self.place.run_dir
    }

    /// This host's own directory for what outlives a reboot; commands get it as `ZEUGMA_STATE_DIR`. Made by who needs
    /// it.
    pub fn state_dir(&self) -> PathBuf {
        self.run_dir().with_added_extension("state")
    }

    /// From now on this host's programs see a directory or file of its own at `path`, which has to exist, as machines
    /// do: for what has a fixed place, such as `/var/lib/cni`. Returns where it is in the world; it is empty.
    ///
    /// # Errors
    /// When there is nothing at `path`.
    pub fn own(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let found = fs::metadata(path).with_context(|| format!("find {}", path.display()))?;
        let name = path.display().to_string().trim_start_matches('/').replace('/', "-");
        let source = self.run_dir().with_added_extension(name);
        match found.is_dir() {
            true => fs::create_dir_all(&source)?,
            false => drop(File::create(&source)?),
        }
        let mut own = self.place.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.push((source.clone(), path.into()));
        Ok(source)
    }

    /// What a runtime knows of this namespace as a container `id` with an interface `ifname`.
    pub fn attachment(&self, id: &str, ifname: &str) -> Attachment {
        Attachment::new(self, id, ifname)
    }

    /// Takes the calling thread into the namespace, for good: call it on threads made for that.
    pub(crate) fn join(&self) -> Result<()> {
        let enter = || format!("enter the namespace of {}", self.name());
        setns(File::open(self.path()).with_context(enter)?, CloneFlags::CLONE_NEWNET).with_context(enter)?;
        let own = self.place.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.is_empty() {
            return Ok(());
        }
        let nothing = None::<&str>;
        // What the world mounts later, such as a container's namespace, is seen here, and nothing the other way round.
        unshare(CloneFlags::CLONE_NEWNS).with_context(enter)?;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing).with_context(enter)?;
        own.iter().try_for_each(|(source, path)| {
            mount(Some(source), path, nothing, MsFlags::MS_BIND, nothing)
                .with_context(|| format!("lay {} over {}", source.display(), path.display()))
        })
    }

    /// Runs `story` on a fresh thread inside the namespace, e.g. to open sockets there.
    ///
    /// # Errors
    /// When the namespace cannot be entered, and those of `story`.
    pub fn enter<T: Send>(&self, story: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| self.join().and_then(|()| story()));
            inside.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// A command to be run inside the namespace; give it arguments, environment and stdin, then `run`,
    /// `output` or `spawn` it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> HostCommand {
        HostCommand::new(self, program.as_ref())
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it exits with anything but 0; the message holds its stderr.
    pub fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<Finished> {
        HostCommand::from_words(self, words)?.run()
    }

    /// Starts a command that is killed when the returned guard is dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<Running> {
        HostCommand::from_words(self, words)?.spawn()
    }

    /// Runs `ip` with the words of `line`: `host.ip("route add default via 192.0.2.1")`.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn ip(&self, line: &str) -> Result<Finished> {
        self.command("ip").args(line.split_whitespace()).run()
    }

    /// Runs `nft` with `script` as one transaction.
    ///
    /// # Errors
    /// When `nft` refuses.
    pub fn nft(&self, script: &str) -> Result<Finished> {
        self.command("nft").args(["-f", "-"]).stdin(script).run()
    }

    /// Writes a sysctl, named with dots.
    ///
    /// # Errors
    /// When there is none of that name, or the value is refused.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.enter(|| fs::write(sysctl_path(key), value).with_context(|| format!("set {key} to {value}")))
    }

    /// Reads a sysctl, named with dots.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn sysctl(&self, key: &str) -> Result<String> {
        self.enter(|| {
            let value = fs::read_to_string(sysctl_path(key)).with_context(|| format!("read {key}"))?;
            Ok(value.trim().to_owned())
        })
    }
}

/// `/` inside a name stands for a dot of an interface name, as in sysctl(8).
fn sysctl_path(key: &str) -> PathBuf {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    Path::new("/proc/sys").join(key.chars().map(swap).collect::<String>())
}
