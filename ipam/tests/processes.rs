//! `host-local` as processes: in parallel, killed, and taking turns with the reference's binary on one directory.
//!
//! This test's own executable acts as the plugin (see [`as_plugin`]). Single decisions are tested in the crate.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use zeugma_ipam::HostLocal;
use zeugma_skel::{Env, respond};

/// Where Debian installs the reference.
const REFERENCE: &str = "/usr/lib/cni/host-local";

/// The other side of [`Host::start`]: a plugin call when CNI_COMMAND is set, else nothing. The harness writes to
/// standard output, so the answer goes to standard error.
#[test]
fn as_plugin() {
    if std::env::var_os("CNI_COMMAND").is_some() {
        let stdin = std::io::read_to_string(std::io::stdin()).unwrap();
        let answer = respond(&Env::of_process(), stdin.as_bytes(), &HostLocal);
        std::io::stderr().write_all(&answer.stdout).unwrap();
        std::process::exit(answer.exit.into());
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Ours,
    Theirs,
}

struct Host {
    root: TempDir,
    subnets: Value,
}

impl Host {
    fn new(subnets: Value) -> Self {
        Self { root: tempfile::tempdir().unwrap(), subnets }
    }

    fn leases(&self) -> BTreeSet<String> {
        let listing = fs::read_dir(self.root.path().join("leases/net")).unwrap();
        let names = listing.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect()
    }

    fn start(&self, who: Who, command: &str, container: &str) -> Child {
        let mut process = match who {
            Who::Theirs => Command::new(REFERENCE),
            Who::Ours => {
                let mut process = Command::new(std::env::current_exe().unwrap());
                process.args(["--exact", "as_plugin", "--nocapture"]);
                process
            }
        };
        let mut child = process
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", "/proc/self/ns/none")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/usr/lib/cni")
            .env("CNI_NETNS_OVERRIDE", "1")
            .env("ZEUGMA_RUN_DIR", self.root.path().join("run"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let conf = json!({"cniVersion": "1.0.0", "name": "net", "type": "x", "ipam": {"type": "host-local",
            "ranges": self.subnets, "dataDir": self.root.path().join("leases")}});
        child.stdin.take().unwrap().write_all(conf.to_string().as_bytes()).unwrap();
        child
    }

    /// The addresses of a success, or the error's text.
    fn call(&self, who: Who, command: &str, container: &str) -> Result<Vec<String>, String> {
        let output = self.start(who, command, container).wait_with_output().unwrap();
        let answer = String::from_utf8(if who == Who::Ours { output.stderr } else { output.stdout }).unwrap();
        if !output.status.success() {
            return Err(answer);
        }
        let result: Value = serde_json::from_str(&answer).unwrap_or_default();
        let ips = result["ips"].as_array().cloned().unwrap_or_default();
        Ok(ips.iter().map(|ip| ip["address"].as_str().unwrap().to_string()).collect())
    }
}

fn dual_stack() -> Value {
    json!([[{"subnet": "10.1.0.0/22"}], [{"subnet": "fd00:1::/64"}]])
}

fn reference_is_missing() -> bool {
    let missing = !Path::new(REFERENCE).exists();
    if missing {
        eprintln!("SKIPPED: {REFERENCE} is not installed (Debian: containernetworking-plugins)");
    }
    missing
}

/// What one adds the other knows, checks, refuses to add again and removes; the round robin goes on.
#[track_caller]
fn check_swap(first: Who, then: Who) {
    if reference_is_missing() {
        return;
    }
    let host = Host::new(dual_stack());
    assert_eq!(host.call(first, "ADD", "c1").unwrap(), ["10.1.0.2/22", "fd00:1::2/64"]);
    assert_eq!(host.call(then, "ADD", "c2").unwrap(), ["10.1.0.3/22", "fd00:1::3/64"]);
    assert!(host.call(then, "CHECK", "c1").is_ok() && host.call(first, "CHECK", "c2").is_ok());
    let again = host.call(then, "ADD", "c1").unwrap_err();
    assert!(again.contains("duplicate allocation is not allowed"), "{again}");
    host.call(then, "DEL", "c1").unwrap();
    assert!(host.call(first, "CHECK", "c1").is_err() && host.call(then, "CHECK", "c1").is_err());
    host.call(first, "DEL", "c2").unwrap();
    assert!(host.leases().is_empty());
    assert_eq!(host.call(first, "ADD", "c1").unwrap(), ["10.1.0.4/22", "fd00:1::4/64"]);
}

#[test]
fn ours_takes_over_from_the_reference() {
    check_swap(Who::Theirs, Who::Ours);
}

#[test]
fn the_reference_takes_over_from_ours() {
    check_swap(Who::Ours, Who::Theirs);
}

/// Attaches 40 containers from 8 threads, every second one by `other`; then detaches them the other way round.
#[track_caller]
fn check_parallel(other: Who) {
    let host = Host::new(dual_stack());
    let who = |number: usize, flip: bool| {
        if number.is_multiple_of(2) == flip { other } else { Who::Ours }
    };
    let each = |work: &(dyn Fn(usize) + Sync)| {
        thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || (0..5).for_each(|number| work(thread * 5 + number)));
            }
        });
    };
    each(&|number| {
        assert_eq!(host.call(who(number, true), "ADD", &format!("c{number}")).unwrap().len(), 2);
    });
    assert_eq!(host.leases().len(), 80);
    each(&|number| {
        host.call(who(number, false), "CHECK", &format!("c{number}")).unwrap();
        host.call(who(number, false), "DEL", &format!("c{number}")).unwrap();
    });
    assert!(host.leases().is_empty());
}

#[test]
fn parallel_processes_never_get_the_same_address() {
    check_parallel(Who::Ours);
}

#[test]
fn both_take_turns_on_one_lock() {
    if !reference_is_missing() {
        check_parallel(Who::Theirs);
    }
}

#[test]
fn kill_at_any_moment_loses_and_leaks_nothing() {
    let host = Host::new(dual_stack());
    for round in 0..120u64 {
        let command = if round.is_multiple_of(3) { "DEL" } else { "ADD" };
        let mut child = host.start(Who::Ours, command, &format!("c{}", round % 10));
        thread::sleep(Duration::from_micros(400 + round * 67 % 4000));
        let _ = child.kill();
        child.wait().unwrap();
    }
    host.call(Who::Ours, "ADD", "last").unwrap();
    let blank = |name: &String| fs::read(host.root.path().join("leases/net").join(name)).unwrap().is_empty();
    assert!(!host.leases().iter().any(blank));
    for container in 0..10 {
        host.call(Who::Ours, "DEL", &format!("c{container}")).unwrap();
    }
    host.call(Who::Ours, "DEL", "last").unwrap();
    assert!(host.leases().is_empty(), "{:?}", host.leases());
}
