//! ADD is killed, or fails, at every step: afterwards DEL or GC leaves the host as it was, and the
//! container can be added again. `strace` does the killing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Chain, Residue, World, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, bridge, command, firewall, network, object, portmap, with};

/// The calls by which a plugin changes anything, or learns that it did.
const SYSCALLS: [&str; 11] = [
    "openat", "write", "rename", "mkdir", "unlink", "rmdir", "socket", "sendto", "recvfrom", "setns", "flock",
];

fn plugins() -> Vec<Value> {
    vec![
        with(bridge(0), json!({"macspoofchk": true})),
        with(portmap(), json!({"masqAll": true})),
        firewall("isolated"),
        json!({"type": "tuning", "mtu": 1400, "mac": "02:00:00:00:00:09", "sysctl": {"net.core.somaxconn": "500"}}),
    ]
}

/// How a runtime cleans up behind a plugin that did not come back.
#[derive(Clone, Copy, Debug)]
enum Cleanup {
    /// DEL, and it has no result.
    Del,
    /// DEL with the result of the plugin before.
    DelWithPrevious,
    /// DEL after the namespace has gone.
    DelWithoutNamespace,
    /// GC, and the attachment is not in the list.
    Gc,
}

const CLEANUPS: [Cleanup; 4] =
    [Cleanup::Del, Cleanup::DelWithPrevious, Cleanup::DelWithoutNamespace, Cleanup::Gc];

/// A host with one container that stays, so that everything shared is there.
struct Scene<'a> {
    stage: Stage<'a>,
    chain: Chain,
    plugins: Vec<Value>,
    staying: Attachment,
    before: Residue,
}

impl<'a> Scene<'a> {
    fn new(world: &'a World) -> Result<Scene<'a>> {
        let (stage, plugins) = (Stage::new(world)?, plugins());
        let chain = network("net", &plugins)?;
        let staying = stage.publishing(&["8081:80", "8081:80/udp"])?;
        chain.add(&stage.host, &staying)?;
        let before = stage.residue()?;
        Ok(Scene { stage, chain, plugins, staying, before })
    }

    fn config(&self, at: usize, of: &Attachment, previous: Option<&Value>) -> Value {
        self.chain.config(&self.stage.host, &object(&self.plugins[at]), Some(of), previous)
    }

    /// ADD of the plugins before the one at `at`.
    fn lead_up(&self, at: usize, container: &Attachment) -> Result<Value> {
        (0..at).try_fold(Value::Null, |previous, at| {
            let config = self.config(at, container, Some(&previous));
            let answer = command(&self.stage.host, &[], "ADD", Some(container), &config).run()?;
            Ok(serde_json::from_str(&answer.stdout)?)
        })
    }

    fn clean_up(&self, how: Cleanup, container: &Attachment, previous: &Value) -> Result<()> {
        let (mut container, previous) = (container.clone(), Some(previous));
        let previous = match how {
            Cleanup::Gc => return self.chain.gc(&self.stage.host, &[&self.staying]),
            Cleanup::DelWithPrevious => previous,
            Cleanup::Del => None,
            Cleanup::DelWithoutNamespace => {
                container.container().remove()?;
                container = container.without_netns();
                None
            }
        };
        (0..self.plugins.len()).rev().try_for_each(|at| {
            let config = self.config(at, &container, previous);
            command(&self.stage.host, &[], "DEL", Some(&container), &config).run().map(drop)
        })
    }

    /// The host is as before, and the same container's successor gets the same port.
    fn ensure_clean(&self) -> Result<()> {
        self.stage.ensure_unchanged(&self.before)?;
        let again = self.stage.publishing(&["8080:80", "8080:80/udp"])?;
        self.chain.add(&self.stage.host, &again).context("ADD after the crash")?;
        self.chain.del(&self.stage.host, &again)
    }

    /// How often ADD of the plugin at `at` makes each system call.
    fn counts(&self, at: usize) -> Result<BTreeMap<&'static str, u32>> {
        let container = self.stage.publishing(&["8080:80", "8080:80/udp"])?;
        let previous = self.lead_up(at, &container)?;
        let log: PathBuf = self.stage.world.dir().join("strace");
        let config = self.config(at, &container, Some(&previous));
        let trace = ["strace", "-qq", "-f", "-o", &log.display().to_string()].map(str::to_owned);
        command(&self.stage.host, &trace, "ADD", Some(&container), &config).run()?;
        self.clean_up(Cleanup::DelWithPrevious, &container, &previous)?;
        let text = fs::read_to_string(log)?;
        let named = |name: &'static str| text.lines().filter(|line| line.contains(&format!(" {name}("))).count();
        Ok(SYSCALLS.into_iter().map(|name| (name, named(name) as u32)).collect())
    }
}

/// `strace` that meddles with the `nth` call of `name`.
fn meddling(name: &str, what: &str, nth: u32) -> Vec<String> {
    let inject = format!("inject={name}:{what}:when={nth}");
    ["strace", "-qq", "-f", "-o", "/dev/null", "-e", &inject].map(str::to_owned).into()
}

fn ensure_survives_kills(at: usize) {
    run(|world| {
        let scene = Scene::new(world)?;
        let mut cleanups = CLEANUPS.iter().cycle();
        for (name, count) in scene.counts(at)? {
            for nth in 1..=count {
                let how = *cleanups.next().context("endless")?;
                kill(&scene, at, (name, nth), how).with_context(|| format!("killed at {name} {nth}, then {how:?}"))?;
            }
        }
        Ok(())
    });
}

fn kill(scene: &Scene<'_>, at: usize, (name, nth): (&str, u32), how: Cleanup) -> Result<()> {
    let container = scene.stage.publishing(&["8080:80", "8080:80/udp"])?;
    let previous = scene.lead_up(at, &container)?;
    let config = scene.config(at, &container, Some(&previous));
    let wrapper = meddling(name, "signal=SIGKILL", nth);
    let ended = command(&scene.stage.host, &wrapper, "ADD", Some(&container), &config).output()?;
    ensure!(!ended.status.success(), "it was not killed: {}", ended.stdout);
    scene.clean_up(how, &container, &previous)?;
    scene.ensure_clean()
}

#[test]
fn bridge_killed_at_any_step_leaves_nothing() {
    ensure_survives_kills(0);
}

#[test]
fn portmap_killed_at_any_step_leaves_nothing() {
    ensure_survives_kills(1);
}

#[test]
fn firewall_killed_at_any_step_leaves_nothing() {
    ensure_survives_kills(2);
}

#[test]
fn tuning_killed_at_any_step_leaves_nothing() {
    ensure_survives_kills(3);
}

/// Each call once fails: ADD undoes itself, or it did not matter. Nobody calls DEL of the plugin.
fn ensure_undoes(at: usize) {
    run(|world| {
        let scene = Scene::new(world)?;
        for (name, count) in scene.counts(at)? {
            // What has been sent is in the kernel, whether its answer can be read or not; and no undo
            // can remove a file when removing files is what fails.
            if ["recvfrom", "unlink", "rmdir", "flock"].contains(&name) {
                continue;
            }
            for nth in 1..=count {
                fail(&scene, at, name, nth).with_context(|| format!("{name} {nth} failed"))?;
            }
        }
        Ok(())
    });
}

fn fail(scene: &Scene<'_>, at: usize, name: &str, nth: u32) -> Result<()> {
    let container = scene.stage.publishing(&["8080:80", "8080:80/udp"])?;
    let previous = scene.lead_up(at, &container)?;
    let before = (scene.stage.residue()?, container.container().residue()?);
    let config = scene.config(at, &container, Some(&previous));
    let wrapper = meddling(name, "error=ENOMEM", nth);
    let ended = command(&scene.stage.host, &wrapper, "ADD", Some(&container), &config).output()?;
    if !ended.status.success() {
        // A process that could not load its libraries or print its answer never spoke.
        let is_early = ended.stdout.is_empty() && ended.stderr.contains("error while loading");
        let object: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
        ensure!(is_early || name == "write" || object["code"].as_u64() > Some(0), "no error object: {ended:?}");
        if !(name == "write" && object.is_null()) {
            scene.stage.ensure_unchanged(&before.0)?;
            container.container().ensure_unchanged(&before.1.without(|line| line.contains("sysctl")))?;
        }
    }
    scene.clean_up(Cleanup::Del, &container, &previous)?;
    scene.ensure_clean()
}

#[test]
fn bridge_failing_at_any_step_undoes_itself() {
    ensure_undoes(0);
}

#[test]
fn portmap_failing_at_any_step_undoes_itself() {
    ensure_undoes(1);
}

#[test]
fn firewall_failing_at_any_step_undoes_itself() {
    ensure_undoes(2);
}

#[test]
fn tuning_failing_at_any_step_undoes_itself() {
    ensure_undoes(3);
}
