//! A place of a lab: a machine, a switch or a container. It is a thread that went into namespaces of its own, and does
//! there what it is told.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid, sethostname};

use super::{LAYERS, NETNS, bind, link, tmpfs};
use crate::layer::writable_layer;

/// What a machine has of its own besides `/run`. Hosts have these directories (FHS 3.0).
const OWN: [&str; 3] = ["/etc", "/var/lib", "/opt"];
/// What a container has of its own in `/etc`.
const FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

type Job = Box<dyn FnOnce() + Send>;

/// Namespaces of a machine, a switch or a container. They last as long as this, and processes in them.
#[derive(Debug)]
pub struct Place {
    name: String,
    thread: Pid,
    /// None only while it is dropped.
    jobs: Option<Sender<Job>>,
    worker: Option<JoinHandle<()>>,
}

impl Place {
    /// A machine, see [`super::Ground::machine`].
    pub(super) fn machine(name: &str, empty: &[&str]) -> Result<Place> {
        let owner = name.to_owned();
        let empty: Vec<String> = empty.iter().map(ToString::to_string).collect();
        let place = Place::launch(name, move || machine(&owner, &empty))?;
        place.publish()?;
        place.tool("iproute2", &["ip", "link", "set", "lo", "up"], "")?;
        Ok(place)
    }

    /// A switch, see [`super::Ground::switch`].
    pub(super) fn switch(name: &str) -> Result<Place> {
        let owner = name.to_owned();
        let place = Place::launch(name, move || switch(&owner))?;
        place.publish()?;
        // No port waits before it forwards, and nothing is left out that a host has not asked for yet.
        let bridge = "link add br0 type bridge forward_delay 0 mcast_snooping 0\nlink set br0 up\n";
        place.tool("iproute2", &["ip", "-batch", "-"], bridge)?;
        Ok(place)
    }

    /// A container on this machine: namespaces for network, mounts and the host's name; the machine has the network's
    /// as `/run/netns/NAME`. `lo` is down, `/run` is empty, and `/etc/hostname`, `hosts` and `resolv.conf` are the files
    /// that the machine has in [`Place::files`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn container(&self, name: &str) -> Result<Place> {
        let owner = name.to_owned();
        let inside = self.run(move || {
            // A thread begins in the namespaces of the one that started it.
            let goer = owner.clone();
            let place = Place::launch(&owner, move || container(&goer))?;
            let netns = Path::new(NETNS).join(&owner);
            File::create(&netns).with_context(|| format!("create {}", netns.display()))?;
            bind(&place.namespaces().join("net"), &netns)?;
            Ok(place)
        })?;
        inside.publish()?;
        Ok(inside)
    }

    /// Where a machine has the files of a container.
    pub fn files(container: &str) -> PathBuf {
        Path::new("/run/lab").join(container)
    }

    /// Starts a thread that goes where `go` takes it.
    fn launch(name: &str, go: impl FnOnce() -> Result<()> + Send + 'static) -> Result<Place> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (told, arrived) = mpsc::channel();
        let worker = thread::Builder::new().name(name.chars().take(15).collect());
        let worker = worker.spawn(move || {
            let outcome = go().map(|()| gettid());
            let is_there = outcome.is_ok();
            drop(told.send(outcome));
            if is_there {
                todo.into_iter().for_each(|job| job());
            }
        })?;
        let outcome = arrived.recv().map_err(|_| anyhow!("its thread panicked")).flatten();
        let thread = outcome.with_context(|| format!("set {name} up"))?;
        Ok(Place { name: name.into(), thread, jobs: Some(jobs), worker: Some(worker) })
    }

    /// The directory of its thread's namespaces, in all places of the lab.
    fn namespaces(&self) -> PathBuf {
        format!("/proc/{}/task/{}/ns", std::process::id(), self.thread).into()
    }

    /// Makes it known to [`super::enter()`]; on a thread of the holder's own mount namespace.
    fn publish(&self) -> Result<()> {
        let link = link(&self.name);
        symlink(self.namespaces(), &link).with_context(|| format!("create {}", link.display()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for its network namespace, in all places of the lab.
    pub fn netns(&self) -> PathBuf {
        self.namespaces().join("net")
    }

    /// Does `job` in there, on the thread of the place: one at a time.
    ///
    /// # Errors
    /// Those of `job`.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (answer, answered) = mpsc::channel();
        let job: Job = Box::new(move || drop(answer.send(job())));
        if let Some(jobs) = &self.jobs {
            jobs.send(job).map_err(|_| anyhow!("the thread of {} ended", self.name))?;
        }
        answered.recv().map_err(|_| anyhow!("the thread of {} panicked", self.name))?
    }

    /// Runs a program to its end, with `input`, and demands success.
    ///
    /// # Errors
    /// When it is missing (the package that has it is named then) or fails; the message has its standard error.
    pub fn tool(&self, package: &str, words: &[&str], input: &str) -> Result<()> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let (package, input) = (package.to_owned(), input.to_owned());
        self.run(move || tool(&package, &words, &input)).with_context(|| format!("on {}", self.name))
    }
}

impl Drop for Place {
    /// The thread ends.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(worker) = self.worker.take() {
            // A panic of it was somebody's error already.
            let _ = worker.join();
        }
    }
}

pub(super) fn tool(package: &str, words: &[String], input: &str) -> Result<()> {
    let said = words.join(" ");
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("there is no executable {} here: install it (Debian: {package})", words[0])
        }
        child => child.with_context(|| format!("run {said}"))?,
    };
    if let Some(mut pipe) = child.stdin.take() {
        // What it makes of a part shows in its status.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("run {said}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}: {}", error.trim());
    Ok(())
}

/// Takes the calling thread into the namespaces of a machine.
fn machine(name: &str, empty: &[String]) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNS)
        .context("make its namespaces")?;
    sethostname(name).context("set its host name")?;
    for path in OWN {
        let layer = Path::new(LAYERS).join(name).join(path.trim_start_matches('/').replace('/', "-"));
        writable_layer(path, &layer)?;
    }
    // Nothing is removed: a mount can hide the host's files, and not harm them.
    empty.iter().filter(|path| Path::new(path).is_dir()).try_for_each(|path| tmpfs(path))?;
    tmpfs("/run")?;
    fs::create_dir(NETNS)?;
    own_sys();
    replace("/etc/hostname", &format!("{name}\n"))?;
    replace("/etc/hosts", &format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n"))?;
    // There is no outside.
    replace("/etc/resolv.conf", "")?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "0").context("switch forwarding off")
}

/// Takes the calling thread into the namespaces of a switch.
fn switch(name: &str) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNS)
        .context("make its namespaces")?;
    sethostname(name).context("set its host name")?;
    own_sys();
    for scope in ["all", "default"] {
        let key = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
        fs::write(key, "1").context("switch IPv6 off")?;
    }
    Ok(())
}

/// Takes the calling thread, which is one of the machine, into the namespaces of a container.
fn container(name: &str) -> Result<()> {
    let files = Place::files(name);
    fs::create_dir_all(&files).with_context(|| format!("create {}", files.display()))?;
    let hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n");
    for (file, text) in FILES.iter().zip([&format!("{name}\n"), &hosts, ""]) {
        fs::write(files.join(file), text).with_context(|| format!("write {file} of {name}"))?;
    }
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWNS)
        .context("make its namespaces")?;
    sethostname(name).context("set its host name")?;
    FILES.iter().try_for_each(|file| bind(&files.join(file), &Path::new("/etc").join(file)))?;
    tmpfs("/run")?;
    own_sys();
    Ok(())
}

/// `/sys/class/net` shows the interfaces of the namespace that it was mounted in. Where the kernel refuses, which it does
/// in some user namespaces, the host's names are seen there; nothing of ours reads them.
fn own_sys() {
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>);
}

/// Writes a file in the place of whatever has its name, which may be a link to somewhere else.
fn replace(path: &str, text: &str) -> Result<()> {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("remove {path}"));
    }
    fs::write(path, text).with_context(|| format!("write {path}"))
}
