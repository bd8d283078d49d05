//! WireGuard devices of this host: by the kernel where it can, else each by a process `zeugma wg` of its own, which
//! outlives this agent and is started again when it ends.
//!
//! Which peers a device has is decided elsewhere; its link is taken away by `kernel::overlay`, and its process ends
//! with that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnetwork::IpNetwork;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use zeugma_journal::run_dir;
use zeugma_kernel::overlay::{
    Wireguard, WireguardDevice, WireguardPeer, is_own_tun, mark_tun, port_of_another,
};
use zeugma_model::{IfName, PublicKey};
use zeugma_overlay::{Desired, Tunnel};
use zeugma_wireguard::client::{self, Unanswered, Watched};
use zeugma_wireguard::uapi::{PeerState, Secret, State};
use zeugma_wireguard::{difference, saved_at, told_with};

use super::settled::Extent;
use crate::settings::Encryption;

/// How long a process may take until it can be asked.
const START: Duration = Duration::from_secs(5);
/// Between two looks at one that starts.
const LOOK: Duration = Duration::from_millis(20);
/// Between two starts of one that ends each time: at first, and at most.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// One that was asked so often and said nothing hangs: it is killed, and another one takes its place.
const SILENT: u32 = 3;
/// One that ran so long is started at once when it ends.
const STEADY: Duration = Duration::from_secs(60);

/// The devices.
pub(super) struct Devices {
    run_dir: PathBuf,
    encryption: Encryption,
    kernel: Option<Wireguard>,
    processes: BTreeMap<IfName, Process>,
    /// Processes whose device is gone: they end by themselves, and whoever started them is to ask how.
    ending: Vec<Child>,
}

/// A device in user space.
#[derive(Default)]
struct Process {
    /// Says when it ends; none: it is not there.
    watched: Option<Watched>,
    /// If this agent started it.
    child: Option<Child>,
    started: Option<Instant>,
    pause: Duration,
    /// Questions that it did not answer since it last did.
    silent: u32,
    /// Where peers were said to be.
    told: BTreeMap<PublicKey, SocketAddr>,
}

/// A device as it is, and who encrypts.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) device: WireguardDevice,
    /// `kernel` or `userspace`.
    pub(super) implementation: &'static str,
}

impl Devices {
    /// Finds out what the kernel can, if it is to be used.
    pub(super) fn new(encryption: Encryption) -> Self {
        let kernel = match encryption {
            Encryption::Userspace => None,
            Encryption::Auto | Encryption::Kernel => Wireguard::open().unwrap_or_else(|error| {
                tracing::warn!(%error, "the kernel is not asked for WireGuard");
                None
            }),
        };
        if kernel.is_none() && encryption == Encryption::Kernel {
            tracing::error!("this kernel has no WireGuard: load its module, or leave --wireguard out");
        }
        Self { run_dir: run_dir(), encryption, kernel, processes: BTreeMap::new(), ending: Vec::new() }
    }

    /// Asks those that end how they did; otherwise the kernel keeps them for ever.
    pub(super) fn reap(&mut self) {
        self.ending.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    /// Whether every device in user space has its process still.
    pub(super) fn all_run(&self) -> bool {
        self.processes.values().all(Process::is_alive)
    }

    /// Forgets the devices that are none of these, and their keys.
    pub(super) fn retain(&mut self, devices: &[WireguardDevice]) {
        let is_wanted = |link: &IfName| devices.iter().any(|device| device.link == *link);
        let Self { run_dir, ending, .. } = self;
        self.processes.retain(|link, process| {
            process.reap();
            let is_wanted = is_wanted(link);
            // A process that is there takes the file away itself, when its device goes.
            if !is_wanted && !process.is_alive() {
                let _ = fs::remove_file(saved_at(run_dir, link));
            }
            if !is_wanted {
                ending.extend(process.child.take());
            }
            is_wanted
        });
    }

    /// The kernel, if it is to have this device. Where nobody said who, one that is in user space stays there: the kernel
    /// may have got its WireGuard since.
    fn kernel_for(&mut self, link: &IfName) -> Option<&mut Wireguard> {
        let stays = self.processes.contains_key(link)
            || self.encryption == Encryption::Auto && is_own_tun(link).unwrap_or(false);
        self.kernel.as_mut().filter(|_| !stays)
    }

    /// Makes a device what it is to be, as far as that is known.
    pub(super) async fn settle(&mut self, device: &WireguardDevice, extent: Extent) -> Result<(), String> {
        if let Some(kernel) = self.kernel_for(&device.link) {
            let settled = match extent {
                Extent::Whole => kernel.settle(device),
                Extent::Additions => completed_by(kernel, device),
            };
            return settled.map_err(|error| match error.is_port_taken() {
                true => no_port(device),
                false => error.to_string(),
            });
        }
        let socket = client::socket(&self.run_dir, &device.link);
        let process = self.processes.entry(device.link.clone()).or_default();
        if !process.is_alive() {
            process.start(&device.link, &socket).await?;
        }
        let path = socket.clone();
        let there = process.ask(&device.link, move || client::get(&path)).await.map_err(|told| told.text)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wanted = match extent {
            Extent::Whole => wanted(device),
            Extent::Additions => wanted(&completed(device, &seen(&device.link, &there))),
        };
        let change = difference(&wanted, &there, &process.told, now);
        let told = told_with(&wanted, &there, change.as_ref(), &process.told);
        if let Some(change) = change {
            let set = process.ask(&device.link, move || client::set(&socket, &change)).await;
            set.map_err(|told| if told.is_port_taken { no_port(device) } else { told.text })?;
        }
        process.told = told;
        mark_tun(&device.link).map_err(|error| error.to_string())
    }

    /// The devices of these overlays that are there and answer.
    pub(super) async fn seen(&mut self, desired: &Desired) -> BTreeMap<IfName, Seen> {
        let mut all = BTreeMap::new();
        for overlay in desired.overlays.values() {
            if let Some(Tunnel::Wireguard { link, .. }) = &overlay.tunnel
                && let Some(seen) = self.look(link).await
            {
                all.insert(link.clone(), seen);
            }
        }
        all
    }

    async fn look(&mut self, link: &IfName) -> Option<Seen> {
        if let Some(kernel) = self.kernel_for(link) {
            let device = kernel.device(link).ok()??;
            return Some(Seen { device, implementation: "kernel" });
        }
        let socket = client::socket(&self.run_dir, link);
        let process = self.processes.get_mut(link).filter(|process| process.is_alive())?;
        let state = process.ask(link, move || client::get(&socket)).await.ok()?;
        Some(Seen { device: seen(link, &state), implementation: "userspace" })
    }
}

impl Process {
    fn is_alive(&self) -> bool {
        self.watched.as_ref().is_some_and(Watched::is_alive)
    }

    /// Finds the one that runs, or starts one, and waits until it can be asked.
    async fn start(&mut self, link: &IfName, socket: &Path) -> Result<(), String> {
        self.reap();
        self.silent = 0;
        self.watched = found(socket).await;
        if self.watched.is_some() {
            return Ok(());
        }
        let ran = self.started.map(|at| at.elapsed());
        match ran {
            Some(ran) if ran < self.pause => {
                return Err(format!("WireGuard device {link}: its process ended and is started again soon"));
            }
            Some(ran) if ran < STEADY => self.pause = (self.pause * 2).clamp(FIRST, LONGEST),
            _ => self.pause = FIRST,
        }
        self.started = Some(Instant::now());
        tracing::info!(%link, "starts WireGuard in user space");
        self.child = Some(spawned(link).map_err(|error| format!("cannot start zeugma wg {link}: {error}"))?);
        let end = Instant::now() + START;
        while Instant::now() < end {
            self.watched = found(socket).await;
            if self.watched.is_some() {
                return Ok(());
            }
            if self.reap() {
                break;
            }
            sleep(LOOK).await;
        }
        Err(format!("WireGuard device {link}: zeugma wg does not come up; its last words are in this log"))
    }

    /// Asks it something on a thread that may wait: whatever becomes of it, the rest of the agent goes on.
    async fn ask<T: Send + 'static>(
        &mut self,
        link: &IfName,
        question: impl FnOnce() -> Result<T, Unanswered> + Send + 'static,
    ) -> Result<T, Told> {
        let error = match spawn_blocking(question).await.map_err(Told::of)? {
            Ok(answer) => {
                self.silent = 0;
                return Ok(answer);
            }
            Err(error) => error,
        };
        self.silent += u32::from(matches!(error, Unanswered::Silent { .. }));
        if self.silent >= SILENT
            && let Some(watched) = self.watched.take()
        {
            tracing::error!(%link, "zeugma wg answers nothing: it is killed, and started again");
            let ended = spawn_blocking(move || watched.end()).await;
            if !matches!(ended, Ok(Ok(true))) {
                let told =
                    format!("WireGuard device {link}: zeugma wg hangs and cannot be killed: {ended:?}");
                return Err(Told::of(told));
            }
        }
        Err(Told { is_port_taken: error.is_port_taken(), ..Told::of(error) })
    }

    /// Whether the one that this agent started has ended.
    fn reap(&mut self) -> bool {
        let is_over = self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        if is_over {
            self.child = None;
        }
        is_over
    }
}

/// With all peers that `there` has, and what nobody there has of what its own are to have: what is there may be newer.
fn completed(device: &WireguardDevice, there: &WireguardDevice) -> WireguardDevice {
    let held: BTreeSet<IpNetwork> = there.peers.iter().flat_map(|peer| &peer.allowed).copied().collect();
    // Where one is that was heard of elsewhere is not said: it roamed, or moved.
    let stays = |peer: &WireguardPeer| (peer.key, WireguardPeer { endpoint: None, ..peer.clone() });
    let mut peers: BTreeMap<PublicKey, WireguardPeer> = there.peers.iter().map(stays).collect();
    for peer in &device.peers {
        let new = || WireguardPeer { allowed: Vec::new(), ..peer.clone() };
        let its = peers.entry(peer.key).or_insert_with(new);
        its.endpoint = peer.endpoint;
        its.allowed.extend(peer.allowed.iter().filter(|network| !held.contains(network)));
    }
    WireguardDevice { peers: peers.into_values().collect(), ..device.clone() }
}

fn completed_by(kernel: &mut Wireguard, device: &WireguardDevice) -> Result<(), zeugma_kernel::Error> {
    match kernel.device(&device.link)? {
        Some(there) => kernel.settle(&completed(device, &there)),
        None => kernel.settle(device),
    }
}

/// Why something that was asked was not done.
struct Told {
    text: String,
    /// Its UDP port is another's.
    is_port_taken: bool,
}

impl Told {
    fn of(cause: impl ToString) -> Self {
        Self { text: cause.to_string(), is_port_taken: false }
    }
}

/// The process that listens there, if one does.
async fn found(socket: &Path) -> Option<Watched> {
    let socket = socket.to_owned();
    spawn_blocking(move || client::watch(&socket)).await.ok()?.ok()
}

fn no_port(device: &WireguardDevice) -> String {
    format!("WireGuard device {}: {}", device.link, port_of_another(device.port))
}

/// In a session of its own, so that nothing that ends the agent ends it.
fn spawned(link: &IfName) -> std::io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    // The same version as this one, and called what it is in lists of processes.
    command.arg0("zeugma").args(["wg", "--own-session", link.as_str()]).current_dir("/");
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()
}

/// What is said of it, as the socket's protocol has it.
fn wanted(device: &WireguardDevice) -> State {
    let peer = |peer: &WireguardPeer| PeerState {
        key: peer.key,
        preshared_key: None,
        endpoint: peer.endpoint,
        last_handshake: None,
        received: 0,
        sent: 0,
        keepalive: peer.keepalive,
        allowed: peer.allowed.clone(),
    };
    State {
        private_key: device.private_key.map(Secret),
        listen_port: device.port,
        fwmark: 0,
        peers: device.peers.iter().map(peer).collect(),
    }
}

fn seen(link: &IfName, state: &State) -> WireguardDevice {
    let peer = |peer: &PeerState| WireguardPeer {
        key: peer.key,
        endpoint: peer.endpoint,
        allowed: peer.allowed.clone(),
        keepalive: peer.keepalive,
        last_handshake: peer.last_handshake.map(|since| UNIX_EPOCH + since),
        received: peer.received,
        sent: peer.sent,
    };
    let peers = state.peers.iter().map(peer).collect();
    WireguardDevice { link: link.clone(), private_key: None, port: state.listen_port, peers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeugma_kernel::start_of;

    fn device(peers: &[(u8, &str, &[&str])]) -> WireguardDevice {
        let peer = |(key, endpoint, allowed): &(u8, &str, &[&str])| WireguardPeer {
            key: PublicKey([*key; 32]),
            endpoint: endpoint.parse().ok(),
            allowed: allowed.iter().map(|network| network.parse().unwrap()).collect(),
            keepalive: 25,
            last_handshake: None,
            received: 0,
            sent: 0,
        };
        let peers = peers.iter().map(peer).collect();
        WireguardDevice { link: "wg-net".parse().unwrap(), private_key: Some([9; 32]), port: 51820, peers }
    }

    #[test]
    fn a_completed_device_loses_nobody_and_nobody_loses_an_address() {
        // The second one changed its key right before, the fourth one is new, and somebody removed the third.
        let known = device(&[
            (1, "192.0.2.1:1", &["10.1.1.0/24", "10.1.9.0/24"]),
            (2, "192.0.2.2:1", &["10.1.2.0/24"]),
            (3, "192.0.2.3:1", &["10.1.3.0/24"]),
        ]);
        let there = device(&[
            (1, "203.0.113.1:7", &["10.1.1.0/24"]),
            (2, "192.0.2.2:1", &[]),
            (22, "192.0.2.2:1", &["10.1.2.0/24"]),
            (4, "192.0.2.4:1", &["10.1.4.0/24"]),
        ]);
        let expected = device(&[
            (1, "192.0.2.1:1", &["10.1.1.0/24", "10.1.9.0/24"]),
            (2, "192.0.2.2:1", &[]),
            (3, "192.0.2.3:1", &["10.1.3.0/24"]),
            (4, "", &["10.1.4.0/24"]),
            (22, "", &["10.1.2.0/24"]),
        ]);
        assert_eq!(completed(&known, &there), expected);
        assert_eq!(completed(&known, &device(&[])), known);
    }

    #[test]
    fn nothing_is_left_of_the_process_of_a_network_that_is_gone() {
        let mut devices = Devices::new(Encryption::Userspace);
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let (pid, words) = (child.id(), child.stdin.take());
        let process = Process { child: Some(child), ..Process::default() };
        devices.processes.insert("wg-gone".parse().unwrap(), process);
        devices.retain(&[]);
        devices.reap();
        assert!(start_of(pid.cast_signed()).is_some());
        drop(words);
        let end = Instant::now() + Duration::from_secs(10);
        while Path::new(&format!("/proc/{pid}")).exists() {
            devices.reap();
            assert!(Instant::now() < end, "process {pid} is still there");
            std::thread::sleep(LOOK);
        }
    }
}
