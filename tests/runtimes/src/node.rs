//! A machine to run a container runtime on: a host of `netns_fixtures` with a PID namespace
//! of its own and a private view of every path that runtimes write to, and an outside client.
//!
//! Whatever a runtime leaves running ends with the PID namespace, also when the test is
//! killed. It is not a security boundary, and it knows nothing of any particular runtime.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use netns_fixtures::{Host, HostCommand, Residue, Running, World};

/// The node's address on the link to the outside client.
pub const NODE_ADDRESS: &str = "192.0.2.1";
/// The outside client's address; it knows no other network than this link's.
pub const OUTSIDE_ADDRESS: &str = "192.0.2.2";

/// Ends after the node's last process. Cgroups are no namespace: they go one by one, from below.
const HOLD: &str = r#"unshare --mount --pid --ipc --fork --kill-child sh -c "$1"
find /sys/fs/cgroup -depth -type d \( -name "$2" -o -path "*/$2/*" \) -exec rmdir {} + 2>/dev/null"#;

/// A throw-away machine; dropping it ends all its processes and removes its cgroups.
pub struct Node {
    name: String,
    machine: Host,
    outside: Host,
    holder: Child,
    first: u32,
}

impl Node {
    /// Runs `test` with a fresh node; panics with its error. Needs root.
    pub fn run(test: impl FnOnce(&Node) -> Result<()> + Send) {
        netns_fixtures::run(|world| test(&Node::create(world)?));
    }

    fn create(world: &World) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("zeugma-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        for dir in ["/etc", "/opt", "/var/lib"] {
            world.shadow(dir)?;
        }
        let (machine, outside) = (world.host("node")?, world.host("outside")?);
        let (near, far) = (format!("{NODE_ADDRESS}/24"), format!("{OUTSIDE_ADDRESS}/24"));
        world.link((&machine, "uplink", near.as_str()), (&outside, "eth0", far.as_str()))?;
        machine.ip(&format!("route add default via {OUTSIDE_ADDRESS}"))?;
        let (holder, first) = machine.enter(|| hold(&name))?;
        Ok(Self { name, machine, outside, holder, first })
    }

    /// A name that no other node has: cgroups and containerd namespaces are called so.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client on the other side of the uplink.
    pub fn outside(&self) -> &Host {
        &self.outside
    }

    /// The node's network, to look into and to ask from.
    pub fn network(&self) -> &Host {
        &self.machine
    }

    /// Runs a command on the node and gives its stdout; a failure carries its stderr.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        Ok(self.enter(words).run()?.stdout.trim().to_owned())
    }

    /// Starts a daemon on the node; it ends with the guard or with the node.
    pub fn spawn(&self, words: &[&str]) -> Result<Running> {
        self.enter(words).spawn()
    }

    /// Directories are left to their defaults, as on a real machine: the node has its own.
    fn enter(&self, words: &[&str]) -> HostCommand {
        let target = format!("--target={}", self.first);
        let nsenter = self.machine.command("nsenter").args([&target, "--mount", "--pid", "--ipc", "--"]);
        let own = ["ZEUGMA_RUN_DIR", "ZEUGMA_STATE_DIR", "ZEUGMA_CNI_CONF_DIR"];
        own.iter().fold(nsenter.args(words), |command, variable| command.env_remove(variable))
    }

    /// Where a file of the node is found from the test; sockets may be connected to there.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.first))
    }

    /// Writes a file on the node.
    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>) -> Result<()> {
        std::fs::write(self.path(inside), content).with_context(|| format!("write {inside}"))
    }

    /// What answers on `address` (IP:PORT) to the outside client.
    pub fn ask(&self, address: &str) -> Result<String> {
        Ok(self.outside.ask_tcp(address)?.trim().to_owned())
    }

    /// Takes stock of network, leases, journal and namespaces. Forgets the tests' own flows before.
    pub fn residue(&self) -> Result<Residue> {
        self.machine.run(["conntrack", "-F"])?;
        let mut residue = self.machine.residue()?;
        for dir in ["/var/lib/cni", "/run/netns", "/run/zeugma"] {
            residue = residue.with_files(&self.path(dir));
        }
        Ok(residue)
    }

    /// Demands that nothing on the node mentions any of `words`: a container's id, address or port.
    pub fn ensure_forgotten(&self, words: &[&str]) -> Result<()> {
        let residue = format!("{:?}", self.residue()?);
        let mentions = |line: &&str| words.iter().any(|word| mentions(line, word));
        let found: Vec<_> = residue.lines().filter(mentions).collect();
        ensure!(found.is_empty(), "still there: {found:#?}");
        Ok(())
    }

    /// Demands that the node is as it was when `before` was read.
    pub fn ensure_restored(&self, before: &Residue) -> Result<()> {
        let diff = before.diff(&self.residue()?);
        ensure!(diff.is_empty(), "the node is not as before:\n{diff}");
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        // Nothing can be done about a holder that cannot be waited for, and it ends all the same.
        let _ = self.holder.wait();
    }
}

/// Starts process 1 of the node; gives what holds it (until its stdin closes) and its process id.
fn hold(name: &str) -> Result<(Child, u32)> {
    let mut holder = Command::new("sh")
        .args(["-c", HOLD, "holder", include_str!("node.sh"), name])
        .current_dir(Path::new("/"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let mut line = String::new();
    BufReader::new(holder.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
    match line.trim().parse() {
        Ok(first) => Ok((holder, first)),
        Err(_) => bail!("no node ({}): run the tests as root", holder.wait()?),
    }
}

/// Whether `word` stands in `line` with nothing before or after it that would make it another word.
fn mentions(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
    })
}
