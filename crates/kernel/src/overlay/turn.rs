//! A plan on its way into the kernel: in order, in parts, with what is heard meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use zeugma_model::IfName;
use zeugma_overlay::{Change, Device, DeviceKind, Plan};

use super::encode::{self, Request};
use super::observe::Seen;
use super::socket::Socket;
use super::watch::{Heard, Listener};
use super::{Settled, of_device};
use crate::ports::port_of_another;
use crate::{Error, Refusal, sysctl};

/// Changes at a time until what they are told of is read: that has to fit into the listener's buffer.
const PART: usize = 1024;

/// One plan's.
pub(super) struct Turn<'a> {
    socket: &'a Socket,
    listener: &'a Listener,
    /// The UDP ports of tunnels.
    ports: BTreeMap<IfName, u16>,
    settled: Settled,
    heard: Heard,
}

impl<'a> Turn<'a> {
    pub(super) fn new(socket: &'a Socket, listener: &'a Listener, ports: BTreeMap<IfName, u16>) -> Self {
        Self { socket, listener, ports, settled: Settled::default(), heard: Heard::default() }
    }

    /// Whether nothing was refused.
    pub(super) fn is_done(&self) -> bool {
        self.settled.failures.is_empty()
    }

    /// Whether nobody else changed anything meanwhile.
    pub(super) fn is_alone(&self, seen: &Seen) -> bool {
        self.heard.agrees_with(seen)
    }

    pub(super) fn settled(self) -> Settled {
        self.settled
    }

    /// In the order of the plan's fields. What there is then, if nothing was refused.
    pub(super) async fn apply(&mut self, plan: &Plan, mut seen: Seen) -> Result<Seen, Error> {
        if plan.is_empty() {
            return Ok(seen);
        }
        let refused = self.send(&encode::guards(plan)).await?;
        let unguarded = plan.guard.iter().enumerate().filter(|(at, _)| refused.contains(at));
        self.settled.unguarded = unguarded.map(|(_, key)| key.destination).collect();
        self.send(&encode::before_links(plan)).await?;
        for (name, device) in &plan.link {
            self.make(name, device).await?;
        }
        let changes: Vec<Request> = plan.set.iter().map(|(name, change)| encode::set(name, change)).collect();
        self.send(&changes).await?;
        seen.forget(&plan.unlink);
        for name in plan.link.keys().chain(plan.set.keys()) {
            self.verify(name, plan.link.get(name), &mut seen).await?;
        }
        // What was told of links before they were verified is old.
        self.heard.take(self.listener.hear());
        self.heard.forget_links();
        let links = std::mem::take(&mut seen.observed.links);
        seen.observed = std::mem::take(&mut seen.observed).after(plan);
        seen.observed.links = links;
        self.settled.failures.extend(encode::wayless(plan, &seen.indexes, &seen.wanted));
        self.send(&encode::after_links(plan, &seen.indexes)).await?;
        Ok(seen)
    }

    /// Makes a device. It is up last: nothing is sent or received before it is as it is to be.
    async fn make(&mut self, name: &IfName, device: &Device) -> Result<(), Error> {
        if !self.send(&[encode::created(name, device)]).await?.is_empty() {
            return Ok(());
        }
        for switch in of_device(name) {
            // They are set again with those of all other devices, and told of there.
            let _ = sysctl::set(&switch);
        }
        let up = Change { up: true, ..Change::default() };
        let finish = [encode::marked(name, &device.alias), encode::set(name, &up)];
        let refused = self.socket.change(&finish).await?;
        let failures = refused.iter().map(|(at, refusal)| failure(&finish[*at], refusal, &self.ports));
        self.settled.failures.extend(failures);
        Ok(())
    }

    /// Looks at a device that was changed. udev and NetworkManager give new devices other Ethernet addresses at times.
    async fn verify(&mut self, name: &IfName, made: Option<&Device>, seen: &mut Seen) -> Result<(), Error> {
        let mac = made.and_then(|device| match device.kind {
            DeviceKind::Vxlan { mac, .. } => Some(mac),
            DeviceKind::Wireguard => None,
        });
        for _ in 0..2 {
            self.look(name, seen).await?;
            let Some(now) = seen.observed.links.get(name) else { return Ok(()) };
            if mac.is_none() || now.mac == mac {
                return Ok(());
            }
            self.send(&[encode::set(name, &Change { mac, ..Change::default() })]).await?;
        }
        self.look(name, seen).await?;
        if seen.observed.links.get(name).is_some_and(|link| link.mac != mac) {
            self.settled.failures.push(format!(
                "link {name} does not keep its Ethernet address: tell udev or NetworkManager to leave it alone \
                 (`MACAddressPolicy=none`)"
            ));
        }
        Ok(())
    }

    async fn look(&self, name: &IfName, seen: &mut Seen) -> Result<(), Error> {
        let mut question = LinkMessage::default();
        question.attributes.push(LinkAttribute::IfName(name.as_str().into()));
        let question = RouteNetlinkMessage::GetLink(question);
        // One that is not there has no answer.
        for answer in self.socket.ask("look up a link", question, 0).await?.unwrap_or_default() {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                seen.take_link(&link);
            }
        }
        Ok(())
    }

    /// Which of them were not done, by position.
    async fn send(&mut self, requests: &[Request]) -> Result<BTreeSet<usize>, Error> {
        let mut undone = BTreeSet::new();
        for (nth, part) in requests.chunks(PART).enumerate() {
            let refused = self.socket.change(part).await?;
            let mut refused = refused.iter().peekable();
            for (at, request) in part.iter().enumerate() {
                match refused.next_if(|(position, _)| *position == at) {
                    None => self.settled.changed.push(request.line.clone()),
                    Some((_, refusal)) if request.done_already.contains(&refusal.errno) => {}
                    Some((_, refusal)) => {
                        self.settled.failures.push(failure(request, refusal, &self.ports));
                        undone.insert(nth * PART + at);
                    }
                }
            }
            self.heard.take(self.listener.hear());
        }
        Ok(undone)
    }
}

fn failure(request: &Request, refusal: &Refusal, ports: &BTreeMap<IfName, u16>) -> String {
    let line = &request.line;
    if let RouteNetlinkMessage::NewLink(message) = &request.message
        && refusal.errno == libc::EADDRINUSE
        && let Some(port) = port_of(message, ports)
    {
        return format!("{line}: {}", port_of_another(port));
    }
    match request.message {
        RouteNetlinkMessage::NewRoute(_) if refusal.errno == libc::EEXIST => {
            format!("{line}: somebody else has a route to the same with the same metric: remove that")
        }
        RouteNetlinkMessage::NewLink(_) if refusal.errno == libc::EEXIST && request.flags != 0 => {
            format!(
                "{line}: another VXLAN device has this identifier and port: remove it, or take another `vni`"
            )
        }
        _ => format!("{line}: {refusal}"),
    }
}

/// The UDP port of the device that a message is about.
fn port_of(message: &LinkMessage, ports: &BTreeMap<IfName, u16>) -> Option<u16> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => ports.get(&name.parse::<IfName>().ok()?).copied(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_that_does_not_get_its_port_says_which() {
        let link: IfName = "wg-net".parse().unwrap();
        let up = encode::set(&link, &Change { up: true, ..Change::default() });
        let refused =
            |errno| failure(&up, &Refusal { errno, reason: None }, &[(link.clone(), 51_821)].into());
        let told = refused(libc::EADDRINUSE);
        assert!(told.starts_with("ip link set wg-net up: UDP port 51821 is taken by "), "{told}");
        assert!(!refused(libc::EPERM).contains("51821"));
    }
}
