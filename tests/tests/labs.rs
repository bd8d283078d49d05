//! `zeugma lab`: what its pages show is what happens, and nothing is left of a lab that is taken down, whatever became of
//! it before. What is said of files that are wrong is in `crates/cli/src/lab/tests.rs`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Finished, Host, HostCommand, Residue, World, eventually, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use zeugma_tests::agent::SOON;
use zeugma_tests::bin_dir;

/// Two machines, a container with an address and a name.
const LAB: &str = "machines: [{name: host}, {name: client, agent: false}]\n\
    links: [{ends: [host, client], subnets: [192.0.2.0/24]}]\n\
    networks: [{name: front, subnets: [{subnet: 10.10.0.0/24}]}]\n\
    containers:\n- {name: web, networks: [front], command: sleep 600}\n- {name: idle, networks: [front]}\n";

/// A machine whose labs are taken down when this is dropped.
struct Ground(Host);

impl Ground {
    fn new(world: &World) -> Result<Ground> {
        // Processes of other tests are seen, too: by the path of its labs each knows its own.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let ground = Ground(world.host(&format!("ground-{}-{number}", process::id()))?);
        fs::create_dir_all(ground.0.run_dir())?;
        Ok(ground)
    }

    fn command(&self, line: &str) -> HostCommand {
        self.0.command(bin_dir().join("zeugma")).arg("lab").args(line.split_whitespace())
    }

    fn lab(&self, line: &str) -> Result<String> {
        Ok(self.command(line).run()?.stdout)
    }

    fn tried(&self, line: &str) -> Result<Finished> {
        self.command(line).output()
    }

    /// A file of a lab.
    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.0.run_dir().join(format!("{name}.yaml"));
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    fn holder(&self) -> Result<i32> {
        let labs: Value = serde_json::from_str(&self.lab("ls --json")?)?;
        let pid = labs[0]["pid"].as_i64().context("a holder")?;
        Ok(i32::try_from(pid)?)
    }

    /// What a lab could leave behind: links, routes, rules, sysctls of the host, its files, mounts and processes.
    fn residue(&self) -> Result<Residue> {
        let labs = self.0.run_dir().join("labs");
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo")?;
        let mounts = mounts.lines().map(|line| format!("mount {line}"));
        let processes = processes(&labs).into_iter().map(|pid| format!("process {pid}"));
        Ok(self.0.residue()?.with_files(&labs).with_lines(mounts.chain(processes)))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // A story that failed may have left some up.
        let _ = self.tried("down --all");
    }
}

/// Holders whose record is below this directory; all else ends with them.
fn processes(labs: &Path) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_ours = |pid: &String| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&format!("{}/", labs.display()))
    };
    pids.filter(is_ours).collect()
}

#[test]
fn a_lab_comes_and_goes_and_nothing_is_left() {
    run(|world| {
        let ground = Ground::new(world)?;
        let file = ground.file("mine", LAB)?;
        let before = ground.residue()?;
        let told = ground.lab(&format!("up {file}"))?;
        ensure!(told.starts_with("lab mine is up: 2 machines, 2 containers"), "{told}");
        ensure!(ground.lab(&format!("up {file}"))? == "lab mine is up already\n");
        ground.file("mine", &format!("{LAB}# changed\n"))?;
        let told = ground.tried(&format!("up {file}"))?;
        ensure!(told.status.code() == Some(1) && told.stderr.contains("--replace"), "{told:?}");
        let listed = ground.lab("ls mine")?;
        ensure!(listed.contains("10.10.0.2/24") && listed.contains("command runs"), "{listed}");
        ensure!(ground.lab("exec web hostname")? == "web\n");
        ensure!(ground.tried("exec client sh -c false")?.status.code() == Some(1));
        ensure!(ground.tried("exec client no-such-program")?.status.code() == Some(127));
        let links = ground.lab("exec client -- ls /sys/class/net")?;
        ensure!(links == "eth0\nlo\n", "{links}");
        ensure!(ground.lab("down mine")? == "mine\n");
        let diff = before.diff(&ground.residue()?);
        ensure!(diff.is_empty(), "{diff}");
        Ok(())
    });
}

#[test]
fn labs_with_the_same_addresses_stand_side_by_side() {
    run(|world| {
        let ground = Ground::new(world)?;
        for name in ["one", "two"] {
            ground.lab(&format!("up {}", ground.file(name, LAB)?))?;
            ground.lab(&format!("exec --lab {name} host -- ping -c 1 -W 10 192.0.2.2"))?;
        }
        let told = ground.tried("exec web hostname")?;
        ensure!(told.stderr.contains("labs one and two have web: say which with --lab"), "{told:?}");
        ground.lab("down one")?;
        ground.lab("exec host -- ping -c 1 -W 10 192.0.2.2")?;
        Ok(())
    });
}

#[test]
fn an_up_that_fails_or_is_killed_leaves_nothing() {
    run(|world| {
        let ground = Ground::new(world)?;
        let file = ground.file("mine", &format!("{LAB}- {{name: bad, command: [no-such-program]}}\n"))?;
        let before = ground.residue()?;
        let told = ground.tried(&format!("up {file}"))?;
        ensure!(told.stderr.contains("bad: cannot run no-such-program: install it"), "{told:?}");
        ensure!(before.diff(&ground.residue()?).is_empty(), "{}", before.diff(&ground.residue()?));
        // What `up` makes one after the other: it is killed as soon as each is there.
        for made in ["", "holder.json", "logs", "state.json"] {
            let made = ground.0.run_dir().join("labs/mine").join(made);
            let up = ground.command(&format!("up {}", ground.file("mine", LAB)?)).spawn()?;
            ensure!(eventually(SOON, || made.exists()), "{}: {}", made.display(), up.log());
            drop(up);
            let _ = ground.tried("down mine")?;
            let is_gone = || ground.residue().is_ok_and(|after| before.diff(&after).is_empty());
            ensure!(eventually(SOON, is_gone), "{}", before.diff(&ground.residue()?));
        }
        Ok(())
    });
}

#[test]
fn a_lab_whose_processes_were_killed_is_taken_down_or_set_up_anew() {
    run(|world| {
        let ground = Ground::new(world)?;
        let file = ground.file("mine", LAB)?;
        let before = ground.residue()?;
        ground.lab(&format!("up {file}"))?;
        ground.lab("exec host -- pkill -9 -f zeugma.agent")?;
        let told = || ground.lab("ls mine").unwrap_or_default();
        ensure!(eventually(SOON, || told().contains("agent ended (137)")), "{}", told());
        kill(Pid::from_raw(ground.holder()?), Signal::SIGKILL)?;
        ensure!(eventually(SOON, || told().contains("broken: zeugma lab down mine")), "{}", told());
        ensure!(ground.lab(&format!("up {file}"))?.contains("is up: "));
        ground.lab(&format!("down {file}"))?;
        ensure!(before.diff(&ground.residue()?).is_empty(), "{}", before.diff(&ground.residue()?));
        Ok(())
    });
}

/// Runs the commands of a page, and compares what they print with what is shown below them.
fn page_is_true(name: &str) {
    run(|world| {
        let ground = Ground::new(world)?;
        let repository = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        let text = fs::read_to_string(repository.join(format!("docs/labs/{name}.md")))?;
        let own = ground.0.run_dir().join("bin");
        fs::create_dir(&own)?;
        symlink(bin_dir().join("zeugma"), own.join("zeugma"))?;
        let path = format!("{}:{}", own.display(), std::env::var("PATH")?);
        let mut blocks = blocks(&text).into_iter().peekable();
        ensure!(blocks.peek().is_some(), "{name}.md has no commands");
        while let Some((kind, block)) = blocks.next() {
            ensure!(kind == "sh", "{name}.md: output without a command: {block}");
            let script = format!("cd {}\n{block}", repository.display());
            let told = ground.0.command("sh").args(["-ec", &script]).env("PATH", &path).run()?.stdout;
            if let Some((_, shown)) = blocks.next_if(|(kind, _)| *kind == "text") {
                ensure!(
                    told.trim() == shown.trim(),
                    "{name}.md: {block}\nshows\n{shown}\nand prints\n{told}"
                );
            }
        }
        let left = processes(&ground.0.run_dir().join("labs"));
        ensure!(left.is_empty(), "the page ends with `zeugma lab down`: {left:?}");
        Ok(())
    });
}

/// Commands (`sh`) and what they print (`text`).
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let parts = page.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    parts.filter(|(kind, _)| ["sh", "text"].contains(kind)).collect()
}

#[test]
fn page_of_bridge_and_nat_is_true() {
    page_is_true("bridge-and-nat");
}

#[test]
fn page_of_a_service_with_three_replicas_is_true() {
    page_is_true("service-with-three-replicas");
}

#[test]
fn page_of_an_overlay_of_two_hosts_is_true() {
    page_is_true("two-host-overlay");
}
