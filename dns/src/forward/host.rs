//! The host's servers: resolv.conf, read again when it is another file than before.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::resolv_conf::{NameServer, ResolvConf};

const PORT: u16 = 53;
/// The file is looked at so often at most.
const EVERY: Duration = Duration::from_secs(1);

/// What tells one content of the file from another: device, inode, size, change.
type Mark = (u64, u64, u64, i64, i64);

pub(super) struct Host {
    path: PathBuf,
    servers: Vec<SocketAddr>,
    looked: Option<Instant>,
    mark: Option<Mark>,
}

impl Host {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, servers: Vec::new(), looked: None, mark: None }
    }

    pub(super) fn servers(&mut self, now: Instant) -> &[SocketAddr] {
        if self.looked.is_none_or(|looked| now >= looked + EVERY) {
            self.look();
            self.looked = Some(now);
        }
        &self.servers
    }

    fn look(&mut self) {
        let mark =
            |about: fs::Metadata| (about.dev(), about.ino(), about.size(), about.mtime(), about.mtime_nsec());
        let mark = fs::metadata(&self.path).ok().map(mark);
        if mark.is_some() && mark == self.mark {
            return;
        }
        self.mark = mark;
        let read = ResolvConf::parse(&fs::read(&self.path).unwrap_or_default());
        self.servers = read.servers.iter().filter_map(address).collect();
        if read.servers.is_empty() {
            // resolv.conf(5): the default is the server on the local machine.
            self.servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
    }
}

fn address(server: &NameServer) -> Option<SocketAddr> {
    match (server.address, &server.scope) {
        (IpAddr::V6(address), Some(scope)) => {
            Some(SocketAddrV6::new(address, PORT, 0, interface(scope)?).into())
        }
        (address, _) => Some((address, PORT).into()),
    }
}

/// An interface's index; its name is no path (`NameServer` sees to that).
fn interface(scope: &str) -> Option<u32> {
    let index = || fs::read_to_string(format!("/sys/class/net/{scope}/ifindex")).ok()?.trim().parse().ok();
    scope.parse().ok().or_else(index)
}
