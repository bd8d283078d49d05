//! A real etcd on the loopback of a network namespace: one member or several, started, killed and started again.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use netns_fixtures::{Host, Running, World, eventually};
use zeugma_catalogue::etcd::Settings;

/// Longer than etcd takes to elect a leader on a busy machine.
const START: Duration = Duration::from_secs(40);

/// Members with their data, running or not.
pub(crate) struct Cluster {
    pub(crate) host: Host,
    members: Vec<Member>,
    /// Words of the command line that all have besides.
    more: Vec<String>,
}

struct Member {
    data: PathBuf,
    running: Option<Running>,
}

impl Cluster {
    /// `count` members, all of them answering.
    pub(crate) fn start(world: &World, count: usize) -> Result<Cluster> {
        let mut cluster = Cluster::prepare(world, count, &[])?;
        (0..count).try_for_each(|index| cluster.run(index))?;
        cluster.await_health(&[])?;
        Ok(cluster)
    }

    /// `count` members that do not run yet.
    pub(crate) fn prepare(world: &World, count: usize, more: &[String]) -> Result<Cluster> {
        let host = world.host("etcd")?;
        let member = |index| Member { data: world.dir().join(format!("m{index}")), running: None };
        Ok(Cluster { host, members: (0..count).map(member).collect(), more: more.to_vec() })
    }

    fn scheme(&self) -> &str {
        if self.more.iter().any(|word| word.starts_with("--cert-file")) { "https" } else { "http" }
    }

    /// Starts a member, or starts it again.
    pub(crate) fn run(&mut self, index: usize) -> Result<()> {
        let scheme = self.scheme();
        let peers = (0..self.members.len()).map(|n| format!("m{n}={}", peer(n))).collect::<Vec<_>>();
        let client = format!("{scheme}://127.0.0.1:{}", port(index));
        // The second address is for the test alone, to get at etcd while the store is cut off.
        let listen = format!("{client},{scheme}://127.0.0.1:{}", side_port(index));
        let mut command = self.host.command("etcd").arg("--name").arg(format!("m{index}"));
        command = command.arg("--data-dir").arg(&self.members[index].data);
        command = command.args(["--listen-client-urls", &listen, "--advertise-client-urls", &client]);
        command =
            command.args(["--listen-peer-urls", &peer(index), "--initial-advertise-peer-urls", &peer(index)]);
        command = command.args(["--initial-cluster", &peers.join(",")]).args(&self.more);
        self.members[index].running = Some(command.spawn()?);
        Ok(())
    }

    /// Kills a member.
    pub(crate) fn kill(&mut self, index: usize) {
        self.members[index].running = None;
    }

    /// Removes what a member that was killed had on disk.
    pub(crate) fn empty(&self, index: usize) -> Result<()> {
        Ok(std::fs::remove_dir_all(&self.members[index].data)?)
    }

    /// What a member wrote.
    pub(crate) fn log(&self, index: usize) -> String {
        self.members[index].running.as_ref().map(Running::log).unwrap_or_default()
    }

    /// Waits until the first member answers.
    pub(crate) fn await_health(&self, more: &[&str]) -> Result<()> {
        let words = [&["endpoint", "health"], more].concat();
        let answers = || self.etcdctl(&words).is_ok();
        ensure!(eventually(START, answers), "etcd does not come up:\n{}", self.log(0));
        Ok(())
    }

    /// Asks the first member by its second address.
    pub(crate) fn etcdctl(&self, words: &[&str]) -> Result<String> {
        let scheme = self.scheme();
        let endpoint = format!("{scheme}://127.0.0.1:{}", side_port(0));
        let command = self.host.command("etcdctl").env("ETCDCTL_API", "3");
        Ok(command.args(["--endpoints", &endpoint]).args(words).run()?.stdout)
    }

    /// How to reach all members, with times for a test.
    pub(crate) fn settings(&self) -> Settings {
        let scheme = self.scheme();
        let urls = (0..self.members.len()).map(|index| format!("{scheme}://127.0.0.1:{}", port(index)));
        let mut settings = Settings::new(urls);
        settings.probe = Duration::from_millis(200);
        settings
    }
}

/// Runs `story` in the namespace of `host`, on a runtime of its own.
pub(crate) fn inside<T: Send>(host: &Host, story: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    host.enter(|| tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(story()))
}

fn port(index: usize) -> usize {
    2379 + 10 * index
}

fn side_port(index: usize) -> usize {
    4379 + 10 * index
}

fn peer(index: usize) -> String {
    format!("http://127.0.0.1:{}", port(index) + 1)
}
