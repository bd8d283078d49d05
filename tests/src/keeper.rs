//! Plays a service manager's part: hears what a service says (sd_notify(3)), keeps the sockets that it is given, and
//! hands them to the next one that it starts.

use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use netns_fixtures::{Host, HostCommand};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::close;

/// The first descriptor that a service inherits.
const FIRST: usize = 3;
/// Descriptors are moved here first, out of one another's way.
const HIGH: usize = 200;

/// The service manager.
#[derive(Debug)]
pub struct Keeper {
    socket: PathBuf,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    lines: Vec<String>,
    /// Descriptors by name; open as long as this process lives, and inherited by what it starts.
    kept: BTreeMap<String, RawFd>,
}

impl Keeper {
    /// Listens, for a service of this host.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub fn new(host: &Host) -> Result<Keeper> {
        let socket = host.run_dir().join("notify.sock");
        let datagrams = UnixDatagram::bind(&socket).context("listen for notifications")?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let told = heard.clone();
        thread::spawn(move || while hear(&datagrams, &told).is_ok() {});
        Ok(Keeper { socket, heard })
    }

    /// A service, started as it would be: with what is kept for it, and told where to report.
    pub fn service(&self, host: &Host, program: &str) -> HostCommand {
        let heard = self.heard();
        let away = heard.kept.values().enumerate().map(|(at, fd)| format!("{}<&{fd}-", at + HIGH));
        let back = (0..heard.kept.len()).map(|at| format!("{}<&{}-", at + FIRST, at + HIGH));
        let redirected = away.chain(back);
        let names: Vec<&str> = heard.kept.keys().map(String::as_str).collect();
        let script = format!(
            "exec {}; LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={} exec {program}",
            redirected.collect::<Vec<_>>().join(" "),
            names.len(),
            names.join(":"),
        );
        host.command("bash").args(["-c", &script]).env("NOTIFY_SOCKET", &self.socket)
    }

    /// Everything that services have said, a line each.
    pub fn lines(&self) -> Vec<String> {
        self.heard().lines.clone()
    }

    /// The names of the sockets that it keeps.
    pub fn kept(&self) -> Vec<String> {
        self.heard().kept.keys().cloned().collect()
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hear(datagrams: &UnixDatagram, told: &Mutex<Heard>) -> Result<()> {
    let mut text = [0; 4096];
    let mut control = nix::cmsg_space!([RawFd; 2]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(datagrams.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let sent = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    let length = message.bytes;
    let text = String::from_utf8_lossy(&text[..length]).into_owned();
    let mut heard = told.lock().unwrap_or_else(PoisonError::into_inner);
    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or_default().to_owned();
    if let Some(descriptor) = sent {
        heard.kept.insert(name, descriptor);
    } else if text.contains("FDSTOREREMOVE=1")
        && let Some(descriptor) = heard.kept.remove(&name)
    {
        close(descriptor)?;
    }
    heard.lines.extend(text.lines().map(str::to_owned));
    Ok(())
}
