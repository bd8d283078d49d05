//! Names for the host itself: where systemd-resolved runs, it is told for each bridge to ask the network's gateway
//! about the network's domain, and nothing else (`org.freedesktop.resolve1`, systemd's D-Bus interface).
//!
//! From a thread of its own, since another program may take its time. Nobody else waits for it, and where there is no
//! systemd-resolved nothing happens.

use std::collections::BTreeMap;
use std::env;
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use zbus::{Connection, block_on};
use zeugma_kernel::Kernel;
use zeugma_model::IfName;
use zeugma_plan::Side;

use crate::desired::HostLink;

const NAME: &str = "org.freedesktop.resolve1";
const OBJECT: &str = "/org/freedesktop/resolve1";
const MANAGER: &str = "org.freedesktop.resolve1.Manager";
const BUS: (&str, &str, &str) = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus");
/// A systemd-resolved that was restarted has forgotten all; it is looked for this often.
const LOOK: Duration = Duration::from_secs(5);

/// Whether the host can ask on a link.
type Told = BTreeMap<IfName, HostLink>;

/// Starts the thread. It does what was sent last, and ends with the sender.
pub(crate) fn start() -> Sender<Vec<HostLink>> {
    let (sender, wishes) = channel();
    let started = thread::Builder::new().name("resolved".into()).spawn(move || follow(&wishes));
    if let Err(error) = started {
        tracing::warn!(%error, "the host itself gets no names: there is no thread to be had");
    }
    sender
}

fn follow(wishes: &Receiver<Vec<HostLink>>) {
    let mut wanted = Vec::new();
    let mut resolved = None;
    loop {
        match wishes.recv_timeout(LOOK) {
            Ok(links) => wanted = wishes.try_iter().last().unwrap_or(links),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        resolved = resolved.filter(Resolved::is_the_same).or_else(Resolved::running);
        if let Some(resolved) = &mut resolved {
            resolved.tell(&wanted);
        }
    }
}

/// A running systemd-resolved.
struct Resolved {
    bus: Connection,
    /// Its connection's name on the bus, another one after each start.
    owner: String,
    told: Told,
    /// What it refused, so that it is logged once.
    refused: Told,
}

/// What it is to be told.
#[derive(Debug, PartialEq, Eq)]
enum Call<'a> {
    Give(&'a HostLink),
    Withdraw(IfName),
}

/// The difference between what is wanted and what it was told.
fn calls<'a>(wanted: &'a [HostLink], told: &Told) -> Vec<Call<'a>> {
    let gone = told.keys().filter(|bridge| wanted.iter().all(|link| link.bridge != **bridge));
    let given = wanted.iter().filter(|link| told.get(&link.bridge) != Some(*link));
    gone.cloned().map(Call::Withdraw).chain(given.map(Call::Give)).collect()
}

impl Resolved {
    /// None when there is no bus or it is not on it. It is not started for us.
    fn running() -> Option<Self> {
        let told = env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_some();
        let usual = ["/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket"];
        if !told && !usual.iter().any(|path| Path::new(path).exists()) {
            return None;
        }
        let bus = block_on(Connection::system()).ok()?;
        let owner = owner(&bus)?;
        tracing::info!("the host asks for names by way of systemd-resolved");
        Some(Self { bus, owner, told: Told::new(), refused: Told::new() })
    }

    fn is_the_same(&self) -> bool {
        owner(&self.bus).as_ref() == Some(&self.owner)
    }

    fn tell(&mut self, wanted: &[HostLink]) {
        for call in calls(wanted, &self.told) {
            match call {
                Call::Withdraw(bridge) => {
                    self.told.remove(&bridge);
                    // A bridge that is gone has taken its servers along.
                    let _ = index(&bridge).and_then(|index| self.call("RevertLink", &(index,)));
                }
                Call::Give(link) => match self.give(link) {
                    Ok(()) => drop(self.told.insert(link.bridge.clone(), link.clone())),
                    Err(error) => self.note_refusal(link, &error),
                },
            }
        }
    }

    fn give(&self, link: &HostLink) -> Result<(), String> {
        let index = index(&link.bridge)?;
        let servers: Vec<(i32, Vec<u8>)> = link.servers.iter().copied().map(wire).collect();
        self.call("SetLinkDNS", &(index, servers))?;
        // It asks there about names below these domains, and about no others.
        let domains: Vec<_> = link.domains.iter().map(|domain| (domain.as_str(), true)).collect();
        self.call("SetLinkDomains", &(index, domains))?;
        // Our names are neither signed nor asked for by TLS; an old systemd-resolved knows neither.
        let _ = self.call("SetLinkDNSSEC", &(index, "no"));
        let _ = self.call("SetLinkDNSOverTLS", &(index, "no"));
        Ok(())
    }

    fn call<B>(&self, method: &str, words: &B) -> Result<(), String>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType,
    {
        let reply = block_on(self.bus.call_method(Some(NAME), OBJECT, Some(MANAGER), method, words));
        reply.map(drop).map_err(|error| format!("{method}: {error}"))
    }

    fn note_refusal(&mut self, link: &HostLink, error: &str) {
        if self.refused.insert(link.bridge.clone(), link.clone()).as_ref() != Some(link) {
            tracing::warn!(bridge = %link.bridge, error, "the host gets no names from systemd-resolved: tried again");
        }
    }
}

fn owner(bus: &Connection) -> Option<String> {
    let (name, object, interface) = BUS;
    let reply = block_on(bus.call_method(Some(name), object, Some(interface), "GetNameOwner", &NAME)).ok()?;
    reply.body().deserialize().ok()
}

fn index(bridge: &IfName) -> Result<i32, String> {
    let link = Kernel::host().link(Side::Host, bridge).map_err(|error| error.to_string())?;
    let link = link.ok_or_else(|| format!("there is no bridge {bridge}"))?;
    i32::try_from(link.index).map_err(|error| error.to_string())
}

/// Family and bytes, as `SetLinkDNS` has them.
fn wire(address: IpAddr) -> (i32, Vec<u8>) {
    const AF_INET: i32 = 2;
    const AF_INET6: i32 = 10;
    match address {
        IpAddr::V4(address) => (AF_INET, address.octets().into()),
        IpAddr::V6(address) => (AF_INET6, address.octets().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(bridge: &str, server: &str) -> HostLink {
        HostLink {
            bridge: bridge.parse().unwrap(),
            servers: [server.parse().unwrap()].into(),
            domains: ["zeugma.internal".into()].into(),
        }
    }

    #[test]
    fn it_is_told_what_is_new_and_what_is_gone() {
        let told = |links: &[HostLink]| -> Told {
            links.iter().map(|link| (link.bridge.clone(), link.clone())).collect()
        };
        let (one, two, moved) = (link("br1", "10.1.0.1"), link("br2", "10.2.0.1"), link("br2", "10.3.0.1"));
        let wanted = [one.clone(), moved.clone()];
        assert_eq!(calls(&wanted, &told(&[])), [Call::Give(&one), Call::Give(&moved)]);
        assert_eq!(calls(&wanted, &told(&[one.clone(), two])), [Call::Give(&moved)]);
        assert_eq!(calls(&wanted, &told(&wanted)), []);
        assert_eq!(calls(&[], &told(&[one])), [Call::Withdraw("br1".parse().unwrap())]);
    }
}
