//! Brings tunnels, addresses, neighbours, forwarding entries and routes of overlays to what is desired, by rtnetlink.
//!
//! What is desired is decided in `zeugma-overlay`, and so are the changes. WireGuard's device and peers: wireguard.rs
//! beside it; messages: encode.rs; answers: observe.rs; what others change: watch.rs; checksums
//! of packets in a tunnel: offload.rs.

mod encode;
mod mark;
mod observe;
mod offload;
mod socket;
mod underlay;
mod watch;
mod wireguard;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use zeugma_model::{IfName, NetworkName};
use zeugma_overlay::{Change, Desired, Device, DeviceKind, Plan, Tunnel, Underlay, alias, plan};
use zeugma_plan::Sysctl;

use crate::{Error, Refusal, sysctl};
use encode::Request;
use observe::Seen;
use socket::Socket;
use watch::{Heard, Listener};

pub use mark::mark_tun;
pub use offload::{Checksums, offload, probe_checksums, set_offload};
pub use wireguard::{Wireguard, WireguardDevice, WireguardPeer};

/// The way to the kernel for overlays of this network namespace.
#[derive(Debug)]
pub struct Overlays {
    socket: Socket,
    listener: Listener,
    /// What there was after the last change, as long as nobody else changed it.
    seen: Option<Seen>,
    /// Whether something was refused.
    has_failed: bool,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// What was changed, a line each, as `ip` and `bridge` would be told.
    pub changed: Vec<String>,
    /// What could not be, a line each.
    pub failures: Vec<String>,
}

impl Overlays {
    /// Opens it, inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn open() -> Result<Self, Error> {
        let (socket, listener) = (Socket::open()?, Listener::open()?);
        Ok(Self { socket, listener, seen: None, has_failed: false })
    }

    /// Compares all that is ours with `desired` and makes it so, with the least changes. WireGuard devices must be there
    /// already; their addresses and routes are set here, their peers are not.
    ///
    /// What there is is listed at first, after [`Overlays::forget`], and when somebody else changed it.
    ///
    /// # Errors
    /// When what is there cannot be read. What the kernel refused is in the answer.
    pub async fn settle(&mut self, desired: &Desired) -> Result<Settled, Error> {
        let wanted = names(desired);
        let heard = self.listener.hear();
        let seen = match self.seen.take().filter(|seen| seen.wanted == wanted && is_current(seen, &heard)) {
            Some(seen) => seen,
            None => observe::observe(&self.socket, &wanted).await?,
        };
        let plan = plan(desired, &seen.observed);
        let mut settled = Settled { changed: Vec::new(), failures: plan.failures() };
        let outcome = self.apply(&plan, seen, &mut settled).await?;
        let ours = outcome.iter().flat_map(|seen| seen.observed.links.iter());
        let ours = ours.filter(|(_, link)| link.is_ours()).flat_map(|(name, _)| of_device(name));
        for switch in forwarding(desired).chain(ours) {
            settled.failures.extend(sysctl::set(&switch).err().map(|error| error.to_string()));
        }
        self.has_failed = !settled.failures.is_empty();
        self.seen = outcome;
        Ok(settled)
    }

    /// Marks a WireGuard device in user space as ours: whoever has started the process that made it knows that it is.
    ///
    /// # Errors
    /// When there is no such link.
    pub async fn claim(&mut self, link: &IfName, network: &NetworkName) -> Result<(), Error> {
        let request = [encode::marked(link, &alias(network))];
        match self.socket.change(&request).await?.into_iter().next() {
            Some((_, refusal)) => Err(Error::Refused { step: request[0].line.clone(), refusal }),
            None => Ok(()),
        }
    }

    /// Looks at everything anew with the next [`Overlays::settle`]: done from time to time, that repairs what nobody
    /// told us of.
    pub fn forget(&mut self) {
        self.seen = None;
    }

    /// Waits until somebody else has changed something of ours, what was refused may work now, or this host's addresses
    /// changed. Nothing is lost when the future is dropped.
    pub async fn changed(&mut self) {
        loop {
            // A socket that broke tells no more: what changes is found when all is compared again.
            let Ok(heard) = self.listener.wait().await else { return std::future::pending().await };
            let helps = self.has_failed && heard.messages.iter().any(watch::may_help);
            if helps || self.seen.as_ref().is_some_and(|seen| !is_current(seen, &heard)) {
                self.seen = None;
                return;
            }
            if heard.messages.iter().any(|message| watch::is_underlay(message, self.seen.as_ref())) {
                return;
            }
        }
    }

    /// The addresses by which other hosts reach this one: those that are given, else one of each family of the interface
    /// that its default route leaves by.
    ///
    /// # Errors
    /// When the kernel does not answer, or no interface has a given address.
    pub async fn underlay(&self, wanted: Option<&[IpAddr]>) -> Result<Vec<Underlay>, Error> {
        underlay::underlay(&self.socket, wanted).await
    }

    /// In the order of the plan's fields. What there is then; none when that has to be looked at.
    async fn apply(&self, plan: &Plan, mut seen: Seen, settled: &mut Settled) -> Result<Option<Seen>, Error> {
        if plan.is_empty() {
            return Ok(Some(seen));
        }
        let mut is_done = self.send(&encode::before_links(plan), settled).await?;
        for (name, device) in &plan.link {
            is_done &= self.make(name, device, settled).await?;
        }
        let changes: Vec<Request> = plan.set.iter().map(|(name, change)| encode::set(name, change)).collect();
        is_done &= self.send(&changes, settled).await?;
        seen.forget(&plan.unlink);
        for name in plan.link.keys().chain(plan.set.keys()) {
            is_done &= self.verify(name, plan.link.get(name), &mut seen, settled).await?;
        }
        let links = std::mem::take(&mut seen.observed.links);
        seen.observed = std::mem::take(&mut seen.observed).after(plan);
        seen.observed.links = links;
        let meanwhile = self.listener.hear();
        is_done &= self.send(&encode::after_links(plan, &seen.indexes), settled).await?;
        // What links told before they were verified is old.
        let is_news = |message: &&RouteNetlinkMessage| {
            !matches!(message, RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_))
        };
        let mut news = meanwhile.messages.iter().filter(is_news);
        let is_ours = !meanwhile.is_lost && !news.any(|message| watch::contradicts(message, &seen));
        Ok(Some(seen).filter(|_| is_done && is_ours))
    }

    /// Makes a device. It is up last: nothing is sent or received before it is as it is to be.
    async fn make(&self, name: &IfName, device: &Device, settled: &mut Settled) -> Result<bool, Error> {
        if !self.send(&[encode::created(name, device)], settled).await? {
            return Ok(false);
        }
        for switch in of_device(name) {
            settled.failures.extend(sysctl::set(&switch).err().map(|error| error.to_string()));
        }
        let up = Change { up: true, ..Change::default() };
        let finish = [encode::marked(name, &device.alias), encode::set(name, &up)];
        let refused = self.socket.change(&finish).await?;
        settled.failures.extend(refused.iter().map(|(at, refusal)| failure(&finish[*at], refusal)));
        Ok(refused.is_empty())
    }

    /// Looks at a device that was changed. udev and NetworkManager give new devices other Ethernet addresses at times.
    async fn verify(
        &self,
        name: &IfName,
        made: Option<&Device>,
        seen: &mut Seen,
        settled: &mut Settled,
    ) -> Result<bool, Error> {
        let mac = made.and_then(|device| match device.kind {
            DeviceKind::Vxlan { mac, .. } => Some(mac),
            DeviceKind::Wireguard => None,
        });
        for _ in 0..2 {
            if !self.look(name, seen).await? {
                return Ok(false);
            }
            let now = seen.observed.links.get(name).and_then(|link| link.mac);
            if mac.is_none() || now == mac {
                return Ok(true);
            }
            let again = encode::set(name, &Change { mac, ..Change::default() });
            self.send(&[again], settled).await?;
        }
        settled.failures.push(format!(
            "link {name} does not keep its Ethernet address: tell udev or NetworkManager to leave it alone \
             (`MACAddressPolicy=none`)"
        ));
        Ok(false)
    }

    /// Whether the link is there.
    async fn look(&self, name: &IfName, seen: &mut Seen) -> Result<bool, Error> {
        let mut question = LinkMessage::default();
        question.attributes.push(LinkAttribute::IfName(name.as_str().into()));
        let question = RouteNetlinkMessage::GetLink(question);
        let answers = self.socket.ask("look up a link", question, 0).await?.unwrap_or_default();
        let link = answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        link.inspect(|link| seen.take_link(link));
        Ok(link.is_some())
    }

    /// Whether all of it was done.
    async fn send(&self, requests: &[Request], settled: &mut Settled) -> Result<bool, Error> {
        let refused = self.socket.change(requests).await?;
        let mut refused = refused.iter().peekable();
        let mut is_done = true;
        for (at, request) in requests.iter().enumerate() {
            match refused.next_if(|(position, _)| *position == at) {
                None => settled.changed.push(request.line.clone()),
                Some((_, refusal)) if request.done_already.contains(&refusal.errno) => {}
                Some((_, refusal)) => {
                    settled.failures.push(failure(request, refusal));
                    is_done = false;
                }
            }
        }
        Ok(is_done)
    }
}

fn failure(request: &Request, refusal: &Refusal) -> String {
    let line = &request.line;
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

fn names(desired: &Desired) -> BTreeSet<IfName> {
    let tunnels = desired.overlays.values().filter_map(|overlay| overlay.tunnel.as_ref());
    tunnels
        .map(|tunnel| match tunnel {
            Tunnel::Vxlan { link, .. } | Tunnel::Wireguard { link, .. } => link.clone(),
        })
        .collect()
}

fn is_current(seen: &Seen, heard: &Heard) -> bool {
    !heard.is_lost && !heard.messages.iter().any(|message| watch::contradicts(message, seen))
}

/// This host passes packets on between containers and tunnels.
fn forwarding(desired: &Desired) -> impl Iterator<Item = Sysctl> {
    let subnets = || desired.overlays.values().flat_map(|overlay| &overlay.subnets);
    let v4 = subnets().any(IpNetwork::is_ipv4).then_some("net/ipv4/ip_forward");
    let v6 = subnets().any(IpNetwork::is_ipv6).then_some("net/ipv6/conf/all/forwarding");
    v4.into_iter().chain(v6).map(|path| switch(path.into(), "1"))
}

/// Packets of containers arrive by a tunnel whose own address is of another block: they are no forgeries. Nobody
/// advertises routers on it.
fn of_device(name: &IfName) -> impl Iterator<Item = Sysctl> + use<> {
    let loose = switch(format!("net/ipv4/conf/{name}/rp_filter"), "2");
    [loose, switch(format!("net/ipv6/conf/{name}/accept_ra"), "0")].into_iter()
}

fn switch(path: String, value: &str) -> Sysctl {
    Sysctl { path, value: value.into(), optional: true }
}
