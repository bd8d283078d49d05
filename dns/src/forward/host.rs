//! The host's servers: resolv.conf, read again when it is another file than before.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::resolv_conf::{NameServer, ResolvConf};
use crate::mark::Mark;

const PORT: u16 = 53;
/// The file is looked at so often at most.
const EVERY: Duration = Duration::from_secs(1);

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
        let mark = Mark::of(&self.path);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(host: &mut Host, now: Instant) -> Vec<String> {
        host.servers(now).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_file_is_read_again_when_it_is_another_but_once_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let (mut host, now) = (Host::new(path.clone()), Instant::now());
        assert_eq!(read(&mut host, now), ["127.0.0.1:53"]);
        fs::write(&path, "nameserver 192.0.2.1\nnameserver fe80::1%1\nnameserver fe80::1%no-such-link\n")
            .unwrap();
        assert_eq!(read(&mut host, now + EVERY / 2), ["127.0.0.1:53"]);
        assert_eq!(read(&mut host, now + EVERY), ["192.0.2.1:53", "[fe80::1%1]:53"]);
        // As programs do that write it anew.
        let other = dir.path().join("other");
        fs::write(&other, "nameserver 192.0.2.2\n").unwrap();
        fs::rename(other, path).unwrap();
        assert_eq!(read(&mut host, now + 2 * EVERY), ["192.0.2.2:53"]);
    }
}
