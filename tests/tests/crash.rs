//! ADD is killed, or fails, at every step: afterwards DEL or GC leaves the host as it was, and the
//! container can be added again. `strace` does the killing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Attachment, Chain, Residue, World, run};
use serde_json::{Value, json};
use zeugma_tests::stage::{Stage, bridge, command, firewall, network, object, portmap, with};

/// The calls by which a plugin changes something.
const CHANGING: [&str; 8] = ["openat", "write", "rename", "mkdir", "unlink", "rmdir", "sendto", "ioctl"];
/// Those by which it gets ready to.
const PREPARING: [&str; 3] = ["socket", "setns", "flock"];

/// One system call of an ADD: the `nth` of its `name`.
#[derive(Clone, Debug)]
struct Moment {
    name: &'static str,
    nth: u32,
    words: String,
}

impl Moment {
    /// Opening a file to read it changes nothing.
    fn changes(&self) -> bool {
        let writes = ["O_CREAT", "O_WRONLY", "O_RDWR"].iter().any(|flag| self.words.contains(flag));
        CHANGING.contains(&self.name) && (self.name != "openat" || writes)
    }

    /// Before `main` there is nobody to report a failure.
    fn is_loading(&self) -> bool {
        self.words.contains(".so") || self.words.contains("/etc/ld")
    }
}

fn chain() -> Vec<Value> {
    vec![
        with(bridge(0), json!({"macspoofchk": true})),
        with(portmap(), json!({"masqAll": true})),
        firewall("isolated"),
        json!({"type": "tuning", "mtu": 1400, "mac": "02:00:00:00:00:09", "sysctl": {"net.core.somaxconn": "500"}}),
        json!({"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000}),
    ]
}

/// A network of one plugin, with addresses of both families.
fn alone(plugin: &str, keys: Value) -> Vec<Value> {
    let ranges = json!([[{"subnet": "10.77.0.0/24"}], [{"subnet": "2001:db8:77::/64"}]]);
    vec![with(json!({"type": plugin, "ipam": {"type": "host-local", "ranges": ranges}}), keys)]
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

const CLEANUPS: &[Cleanup] =
    &[Cleanup::Del, Cleanup::DelWithPrevious, Cleanup::Gc, Cleanup::DelWithoutNamespace];

/// A host with one container that stays, so that everything shared is there.
struct Scene<'a> {
    stage: Stage<'a>,
    chain: Chain,
    plugins: Vec<Value>,
    staying: Attachment,
    before: Residue,
    cleanups: &'static [Cleanup],
}

impl<'a> Scene<'a> {
    fn new(world: &'a World, plugins: &[Value]) -> Result<Scene<'a>> {
        Scene::beside(Stage::new(world)?, plugins, plugins, CLEANUPS)
    }

    /// Two interfaces to move, one for the container that stays. They are virtual: one that is in a container ends
    /// with its namespace.
    fn of_devices(world: &'a World) -> Result<Scene<'a>> {
        let stage = Stage::new(world)?;
        for device in ["dev0", "dev1"] {
            stage.host.ip(&format!("link add {device} type veth peer name far-{device}"))?;
            stage.host.ip(&format!("link set {device} alias rack-4"))?;
        }
        let plugin = |device| alone("host-device", json!({"device": device}));
        let [living @ .., _] = CLEANUPS else { anyhow::bail!("no cleanups") };
        Scene::beside(stage, &plugin("dev1"), &plugin("dev0"), living)
    }

    fn beside(
        stage: Stage<'a>,
        of_staying: &[Value],
        plugins: &[Value],
        cleanups: &'static [Cleanup],
    ) -> Result<Scene<'a>> {
        let staying = stage.publishing(&["8081:80", "8081:80/udp"])?;
        network("net", of_staying)?.add(&stage.host, &staying)?;
        let (chain, before) = (network("net", plugins)?, stage.residue()?);
        Ok(Scene { stage, chain, plugins: plugins.to_vec(), staying, before, cleanups })
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

    /// The system calls that ADD of the plugin at `at` makes itself.
    fn moments(&self, at: usize) -> Result<Vec<Moment>> {
        let container = self.stage.publishing(&["8080:80", "8080:80/udp"])?;
        let previous = self.lead_up(at, &container)?;
        let log: PathBuf = self.stage.world.dir().join("strace");
        let config = self.config(at, &container, Some(&previous));
        let trace = ["strace", "-qq", "-f", "-o", &log.display().to_string()].map(str::to_owned);
        command(&self.stage.host, &trace, "ADD", Some(&container), &config).run()?;
        self.clean_up(Cleanup::DelWithPrevious, &container, &previous)?;
        let text = fs::read_to_string(log)?;
        let own_pid = text.split(' ').next().context("an empty trace")?;
        let calls = text.lines().filter_map(|line| line.strip_prefix(own_pid)?.trim_start().split_once('('));
        let mut counts = BTreeMap::new();
        let mut moments = Vec::new();
        for (called, words) in calls {
            if let Some(name) = CHANGING.into_iter().chain(PREPARING).find(|name| *name == called) {
                let nth = counts.entry(name).and_modify(|count| *count += 1).or_insert(1);
                moments.push(Moment { name, nth: *nth, words: words.into() });
            }
        }
        Ok(moments)
    }
}

/// `strace` that meddles with one call.
fn meddling(Moment { name, nth, .. }: &Moment, what: &str) -> Vec<String> {
    let inject = format!("inject={name}:{what}:when={nth}");
    ["strace", "-qq", "-f", "-o", "/dev/null", "-e", &inject].map(str::to_owned).into()
}

fn ensure_survives_kills(plugins: &[Value], at: usize) {
    run(|world| survives_kills(&Scene::new(world, plugins)?, at));
}

fn survives_kills(scene: &Scene<'_>, at: usize) -> Result<()> {
    let mut cleanups = scene.cleanups.iter().cycle();
    let moments: Vec<Moment> = scene.moments(at)?.into_iter().filter(Moment::changes).collect();
    let mut missed = Vec::new();
    for moment in &moments {
        let how = *cleanups.next().context("endless")?;
        let came = kill(scene, at, moment, how);
        if !came.with_context(|| format!("killed at {moment:?}, then {how:?}"))? {
            missed.push(moment);
        }
    }
    ensure!(missed.len() * 5 <= moments.len(), "these never came: {missed:?}");
    Ok(())
}

/// Whether the moment came: waiting for the kernel takes more calls at one time than at another.
fn kill(scene: &Scene<'_>, at: usize, moment: &Moment, how: Cleanup) -> Result<bool> {
    const TRIES: usize = 3;
    for _ in 0..TRIES {
        let container = scene.stage.publishing(&["8080:80", "8080:80/udp"])?;
        let previous = scene.lead_up(at, &container)?;
        let config = scene.config(at, &container, Some(&previous));
        let wrapper = meddling(moment, "signal=SIGKILL");
        let ended = command(&scene.stage.host, &wrapper, "ADD", Some(&container), &config).output()?;
        if !ended.status.success() {
            scene.clean_up(how, &container, &previous)?;
            scene.ensure_clean()?;
            return Ok(true);
        }
        scene.clean_up(Cleanup::DelWithPrevious, &container, &previous)?;
    }
    Ok(false)
}

#[test]
fn bridge_killed_at_any_step_leaves_nothing() {
    ensure_survives_kills(&chain(), 0);
}

#[test]
fn portmap_killed_at_any_step_leaves_nothing() {
    ensure_survives_kills(&chain(), 1);
}

#[test]
fn firewall_killed_at_any_step_leaves_nothing() {
    ensure_survives_kills(&chain(), 2);
}

#[test]
fn tuning_killed_at_any_step_leaves_nothing() {
    ensure_survives_kills(&chain(), 3);
}

#[test]
fn bandwidth_killed_at_any_step_leaves_nothing() {
    ensure_survives_kills(&chain(), 4);
}

/// Each call once fails: ADD undoes itself, or it did not matter. Nobody calls DEL of the plugin.
fn ensure_undoes(plugins: &[Value], at: usize) {
    run(|world| undoes(&Scene::new(world, plugins)?, at));
}

fn undoes(scene: &Scene<'_>, at: usize) -> Result<()> {
    for moment in scene.moments(at)?.iter().filter(|moment| !moment.is_loading()) {
        // No undo can remove a file when removing files is what fails; and unlocking cannot fail.
        if !["unlink", "rmdir"].contains(&moment.name) && !moment.words.contains("LOCK_UN") {
            fail(scene, at, moment).with_context(|| format!("failed at {moment:?}"))?;
        }
    }
    Ok(())
}

fn fail(scene: &Scene<'_>, at: usize, moment: &Moment) -> Result<()> {
    let container = scene.stage.publishing(&["8080:80", "8080:80/udp"])?;
    let previous = scene.lead_up(at, &container)?;
    let before = (scene.stage.residue()?, container.container().residue()?);
    let config = scene.config(at, &container, Some(&previous));
    let wrapper = meddling(moment, "error=ENOMEM");
    let ended = command(&scene.stage.host, &wrapper, "ADD", Some(&container), &config).output()?;
    // When writing the answer fails, nobody learns why.
    let is_answer = moment.name == "write" && ended.stdout.is_empty();
    if !ended.status.success() && !is_answer {
        let object: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
        ensure!(object["code"].as_u64() > Some(0), "no error object: {ended:?}");
        scene.stage.ensure_unchanged(&before.0)?;
        container.container().ensure_unchanged(&before.1)?;
    }
    scene.clean_up(Cleanup::Del, &container, &previous)?;
    scene.ensure_clean()
}

#[test]
fn bridge_failing_at_any_step_undoes_itself() {
    ensure_undoes(&chain(), 0);
}

#[test]
fn portmap_failing_at_any_step_undoes_itself() {
    ensure_undoes(&chain(), 1);
}

#[test]
fn firewall_failing_at_any_step_undoes_itself() {
    ensure_undoes(&chain(), 2);
}

#[test]
fn tuning_failing_at_any_step_undoes_itself() {
    ensure_undoes(&chain(), 3);
}

#[test]
fn ptp_killed_or_failing_at_any_step_leaves_nothing() {
    ensure_survives_kills(&alone("ptp", json!({"ipMasq": true})), 0);
    ensure_undoes(&alone("ptp", json!({"ipMasq": true})), 0);
}

#[test]
fn macvlan_killed_or_failing_at_any_step_leaves_nothing() {
    ensure_survives_kills(&alone("macvlan", json!({"master": "eth0"})), 0);
    ensure_undoes(&alone("macvlan", json!({"master": "eth0"})), 0);
}

#[test]
fn tap_killed_or_failing_at_any_step_leaves_nothing() {
    ensure_survives_kills(&alone("tap", json!({"owner": 1000, "mtu": 1400})), 0);
    ensure_undoes(&alone("tap", json!({"owner": 1000, "mtu": 1400})), 0);
}

#[test]
fn host_device_killed_or_failing_at_any_step_is_brought_back() {
    run(|world| survives_kills(&Scene::of_devices(world)?, 0));
    run(|world| undoes(&Scene::of_devices(world)?, 0));
}

/// `bridge` first: the step under test is the second.
fn behind_bridge(plugin: Value) -> Vec<Value> {
    vec![bridge(0), plugin]
}

#[test]
fn sbr_killed_or_failing_at_any_step_leaves_nothing() {
    ensure_survives_kills(&behind_bridge(json!({"type": "sbr"})), 1);
    ensure_undoes(&behind_bridge(json!({"type": "sbr"})), 1);
}

#[test]
fn resolver_killed_or_failing_at_any_step_leaves_nothing() {
    // With lo up, which runtimes see to: otherwise it stays up.
    let plugins = [json!({"type": "loopback"}), bridge(0), json!({"type": "resolver", "mode": "container"})];
    ensure_survives_kills(&plugins, 2);
    ensure_undoes(&plugins, 2);
}

#[test]
fn bandwidth_failing_at_any_step_undoes_itself() {
    ensure_undoes(&chain(), 4);
}
