//! Two hosts with a WireGuard device each, configured by wg(8) alone, and transfers between them.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, Running, World, eventually};

use crate::bin_dir;

/// Longer than a handshake takes that is tried again.
pub const SOON: Duration = Duration::from_secs(30);
/// Bytes, of the devices.
pub const MTU: u32 = 1420;

/// A host, and its WireGuard device.
#[derive(Debug)]
pub struct End {
    /// The host.
    pub host: Host,
    /// The device.
    pub link: String,
    private: String,
    public: String,
    /// `zeugma wg`; none: it is killed, or the kernel encrypts.
    pub process: Option<Running>,
    by: By,
}

/// Who encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// `zeugma wg`.
    Userspace,
    /// The kernel.
    Kernel,
}

impl End {
    fn new(world: &World, name: &str, by: By) -> Result<End> {
        let host = world.host(name)?;
        let private = host.run(["wg", "genkey"])?.stdout;
        let public = host.command("wg").arg("pubkey").stdin(private.clone()).run()?.stdout.trim().to_owned();
        let mut end = End { host, link: format!("wg-{name}"), private, public, process: None, by };
        end.start()?;
        Ok(end)
    }

    /// Starts `zeugma wg`, or makes the kernel's device; a process that ran is killed.
    ///
    /// # Errors
    /// When it cannot be asked soon.
    pub fn start(&mut self) -> Result<()> {
        if self.by == By::Kernel {
            return self.host.ip(&format!("link add {} type wireguard", self.link)).map(drop);
        }
        self.process = None;
        let command = self.host.command(bin_dir().join("zeugma")).args(["wg", &self.link]);
        // Where wg(8) looks for it.
        let process = command.env("ZEUGMA_RUN_DIR", "/run/zeugma").spawn()?;
        ensure!(eventually(SOON, || self.wg("show").is_ok()), "{}", process.log());
        self.process = Some(process);
        Ok(())
    }

    /// What `wg VERB` says of the device.
    ///
    /// # Errors
    /// When it fails.
    pub fn wg(&self, verb: &str) -> Result<String> {
        Ok(self.host.run(["wg", verb, &self.link])?.stdout)
    }

    fn set(&self, line: &str) -> Result<()> {
        self.host.command("wg").args(["set", &self.link]).args(line.split_whitespace()).run().map(drop)
    }

    /// Gives it key, port, peer and addresses.
    fn join(&self, peer: &End, endpoint: &str, place: u8, of_peer: u8) -> Result<()> {
        let key = self.host.run_dir().join("key");
        fs::write(&key, &self.private)?;
        let allowed = format!("10.7.0.{of_peer}/32,fd07::{of_peer}/128");
        self.set(&format!("listen-port 51820 private-key {}", key.display()))?;
        self.set(&format!("peer {} endpoint {endpoint} allowed-ips {allowed}", peer.public))?;
        self.host.ip(&format!("addr add 10.7.0.{place}/24 dev {}", self.link))?;
        self.host.ip(&format!("addr add fd07::{place}/64 dev {} nodad", self.link))?;
        self.host.ip(&format!("link set {} mtu {MTU} up", self.link)).map(drop)
    }

    /// Whether a packet with so many bytes behind the ICMP header comes back, in one piece.
    pub fn pings(&self, address: &str, bytes: u32) -> bool {
        let bytes = bytes.to_string();
        let words = ["ping", "-n", "-q", "-c", "1", "-W", "2", "-M", "do", "-s", &bytes, address];
        self.host.run(words).is_ok()
    }
}

/// Two ends whose hosts are joined by a veth of both families; WireGuard goes by `family`. `a` is ours, `b` as it is said.
///
/// # Errors
/// When the kernel, `ip` or `wg` refuses.
pub fn ends(world: &World, family: u8, by: By) -> Result<(End, End)> {
    let (a, b) = (End::new(world, "a", By::Userspace)?, End::new(world, "b", by)?);
    world.link(
        (&a.host, "eth0", "192.0.2.1/24 2001:db8::1/64"),
        (&b.host, "eth0", "192.0.2.2/24 2001:db8::2/64"),
    )?;
    let at = |place: u8| match family {
        4 => format!("192.0.2.{place}:51820"),
        _ => format!("[2001:db8::{place}]:51820"),
    };
    a.join(&b, &at(2), 1, 2)?;
    b.join(&a, &at(1), 2, 1)?;
    Ok((a, b))
}

/// Bytes that no two places have alike, so that what is lost, doubled or moved shows.
pub fn sample(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length / 8).flat_map(|_| next()).collect()
}

/// Sends `bytes` from one host to the other, and looks whether they arrive; `meanwhile` runs when some of them have.
///
/// # Errors
/// When they do not, or others do.
pub fn transfer(
    from: &Host,
    to: &Host,
    address: &str,
    bytes: &[u8],
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let listener = to.enter(|| Ok(TcpListener::bind((address, 0))?))?;
    let at = listener.local_addr()?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut stream = from.enter(|| Ok(TcpStream::connect_timeout(&at, SOON)?))?;
            stream.set_write_timeout(Some(SOON))?;
            stream.write_all(bytes).context("send")
        });
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(SOON))?;
        let mut got = vec![0; bytes.len() / 8];
        stream.read_exact(&mut got)?;
        meanwhile()?;
        stream.read_to_end(&mut got).context("receive")?;
        ensure!(got == bytes, "{} bytes of {} arrived, or others", got.len(), bytes.len());
        sender.join().expect("the sender does not panic")
    })
}

/// What the device counted of packets that it lost.
///
/// # Errors
/// When `ip` does not say.
pub fn dropped(end: &End) -> Result<u64> {
    let link = end.host.ip_json(&format!("-s link show {}", end.link))?;
    link[0]["stats64"]["tx"]["dropped"].as_u64().context("the count of lost packets")
}
