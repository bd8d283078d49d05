//! WireGuard in the kernel, by generic netlink (`include/uapi/linux/wireguard.h`). Which peer is told what, as a value:
//! peers.rs beside it.

mod peers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use ipnetwork::IpNetwork;
use netlink_packet_core::{Emitable, NLM_F_ACK, NLM_F_DUMP, NetlinkMessage, NetlinkPayload};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{WireguardAttribute, WireguardCmd, WireguardMessage};
use netlink_sys::protocols::NETLINK_GENERIC;
use zeugma_model::{IfName, PublicKey};
use zeugma_overlay::{ALIAS, Device, DeviceKind};

use super::encode;
use crate::channel::Channel;
use crate::netfilter::attributes::attribute;
use crate::route::Route;
use crate::{Error, Refusal};

/// Bytes of peers in one message: their attribute has 16 bits for its length, and a page is what is always there.
const PART: usize = 16 << 10;
/// Bytes: of a device until it is told otherwise, as wg-quick(8) has it.
const MTU: u32 = 1420;

/// A device with its peers, as it is to be or as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct WireguardDevice {
    /// Its name.
    pub link: IfName,
    /// Its private key, 32 bytes; none: not told.
    pub private_key: Option<[u8; 32]>,
    /// UDP.
    pub port: u16,
    /// Its peers: no others.
    pub peers: Vec<WireguardPeer>,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireguardPeer {
    /// Its key.
    pub key: PublicKey,
    /// Where it was last heard of, or where it is to be found at first.
    pub endpoint: Option<SocketAddr>,
    /// Which addresses are its own.
    pub allowed: Vec<IpNetwork>,
    /// Seconds between packets that keep the way open; 0: none.
    pub keepalive: u16,
    /// When keys were last agreed on.
    pub last_handshake: Option<SystemTime>,
    /// Bytes from it.
    pub received: u64,
    /// Bytes to it.
    pub sent: u64,
}

/// Kernel WireGuard of this network namespace.
pub struct Wireguard {
    channel: Channel,
    route: Route,
    /// The number that the kernel gave to the family `wireguard`.
    family: u16,
    /// Where peers were to be found when they were last told so: they may have gone elsewhere since.
    told: BTreeMap<(IfName, PublicKey), SocketAddr>,
}

impl Wireguard {
    /// Opens it; none: this kernel has no WireGuard.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Option<Self>, Error> {
        let opened = Channel::open(NETLINK_GENERIC);
        let mut channel = opened
            .map_err(|source| Error::System { action: "open a netlink socket for WireGuard", source })?;
        let Some(family) = family(&mut channel)? else { return Ok(None) };
        Ok(Some(Self { channel, route: Route::open()?, family, told: BTreeMap::new() }))
    }

    /// Makes the device if it is not there, and it, its port, key and peers what they are to be: peers of unchanged keys
    /// keep their sessions and endpoints.
    ///
    /// It is down when it is new: [`super::Overlays::settle`] brings it up, with its addresses, routes and MTU.
    ///
    /// # Errors
    /// When the kernel refuses, or the link is somebody else's.
    pub fn settle(&mut self, device: &WireguardDevice) -> Result<(), Error> {
        self.ensure_link(&device.link)?;
        let now = self.device(&device.link)?;
        let mut now =
            now.ok_or_else(|| Error::NoLink { name: device.link.clone(), side: zeugma_plan::Side::Host })?;
        let own = own(device, &now);
        if !own.is_empty() {
            self.set(&device.link, own)?;
        }
        if now.private_key != device.private_key {
            let silenced = peers::silenced(device, &mut now);
            self.set_peers(&device.link, silenced)?;
        }
        let changes = peers::changes(device, &now, &self.told, SystemTime::now());
        let told = peers::told_with(device, &now, &changes, &self.told);
        self.set_peers(&device.link, changes)?;
        self.told.retain(|(link, _), _| *link != device.link);
        self.told.extend(told);
        Ok(())
    }

    /// The device as it is; none: there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn device(&mut self, link: &IfName) -> Result<Option<WireguardDevice>, Error> {
        const ACTION: &str = "read a WireGuard device";
        let attributes = vec![WireguardAttribute::IfName(link.as_str().into())];
        let sequence = self.push(WireguardCmd::GetDevice, attributes, NLM_F_DUMP);
        let (mut parts, mut undecoded) = (Vec::new(), None);
        let refused = self.channel.answers(sequence, |bytes| {
            match decode(bytes) {
                Ok(part) => parts.extend(part),
                Err(detail) => undecoded = Some(detail),
            }
            false
        });
        match refused.map_err(|source| Error::System { action: ACTION, source })? {
            Some(refusal) if [libc::ENODEV, libc::EOPNOTSUPP].contains(&refusal.errno) => return Ok(None),
            Some(refusal) => return Err(Error::Unanswered { action: ACTION, refusal }),
            None => {}
        }
        if let Some(detail) = undecoded {
            return Err(Error::Reply { action: ACTION, detail });
        }
        Ok(Some(peers::gathered(link.clone(), parts.into_iter().flatten())))
    }

    /// Makes the link, with a mark that says that it is ours; whose network it is, is added to that when it is brought up.
    fn ensure_link(&mut self, name: &IfName) -> Result<(), Error> {
        if let Some(link) = self.route.link(name)? {
            let is_ours =
                link.kind == "wireguard" && link.alias.is_some_and(|alias| alias.starts_with(ALIAS));
            return if is_ours { Ok(()) } else { Err(Error::ForeignLink { name: name.clone() }) };
        }
        let alias = format!("{ALIAS}{name}");
        let device = Device { alias, mtu: MTU, kind: DeviceKind::Wireguard };
        let requests = [encode::created(name, &device), encode::marked(name, &device.alias)];
        let batch = requests.iter().enumerate();
        let batch = batch.map(|(at, request)| (at, request.message.clone(), request.flags)).collect();
        let outcome = self.route.transact(batch)?;
        match outcome.failed.into_iter().next() {
            Some((at, refusal)) => Err(Error::Refused { step: requests[at].line.clone(), refusal }),
            None => Ok(()),
        }
    }

    fn set_peers(
        &mut self,
        link: &IfName,
        changes: Vec<netlink_packet_wireguard::WireguardPeer>,
    ) -> Result<(), Error> {
        let mut part = Vec::new();
        for change in changes {
            let is_full = part.iter().map(Emitable::buffer_len).sum::<usize>() + change.buffer_len() > PART;
            if is_full && !part.is_empty() {
                self.set(link, vec![WireguardAttribute::Peers(std::mem::take(&mut part))])?;
            }
            part.push(change);
        }
        if part.is_empty() { Ok(()) } else { self.set(link, vec![WireguardAttribute::Peers(part)]) }
    }

    fn set(&mut self, link: &IfName, mut attributes: Vec<WireguardAttribute>) -> Result<(), Error> {
        const ACTION: &str = "set a WireGuard device";
        attributes.insert(0, WireguardAttribute::IfName(link.as_str().into()));
        let sequence = self.push(WireguardCmd::SetDevice, attributes, NLM_F_ACK);
        let refused = self.channel.answers(sequence, |_| false);
        let refused = refused.map_err(|source| Error::System { action: ACTION, source })?;
        let step = || format!("wg set {link}");
        refused.map_or(Ok(()), |refusal| Err(Error::Refused { step: step(), refusal }))
    }

    fn push(&mut self, cmd: WireguardCmd, attributes: Vec<WireguardAttribute>, flags: u16) -> u32 {
        let mut message = GenlMessage::from_payload(WireguardMessage { cmd, attributes });
        message.set_resolved_family_id(self.family);
        self.channel.push(NetlinkMessage::from(message), flags)
    }
}

impl std::fmt::Debug for Wireguard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Wireguard").field("family", &self.family).finish_non_exhaustive()
    }
}

/// Without its private key.
impl std::fmt::Debug for WireguardDevice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { link, port, peers, .. } = self;
        let mut shown = formatter.debug_struct("WireguardDevice");
        shown.field("link", link).field("port", port).field("peers", peers).finish_non_exhaustive()
    }
}

/// Key and port, where they are others than they are to be.
fn own(wanted: &WireguardDevice, now: &WireguardDevice) -> Vec<WireguardAttribute> {
    let key = wanted.private_key.filter(|key| now.private_key != Some(*key));
    let port = Some(wanted.port).filter(|port| now.port != *port);
    key.map(WireguardAttribute::PrivateKey)
        .into_iter()
        .chain(port.map(WireguardAttribute::ListenPort))
        .collect()
}

/// The number of the family `wireguard`; the kernel loads the module when it is asked.
fn family(channel: &mut Channel) -> Result<Option<u16>, Error> {
    const ACTION: &str = "look for WireGuard";
    let name = vec![GenlCtrlAttrs::FamilyName("wireguard".into())];
    let question = GenlMessage::from_payload(GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: name });
    let sequence = channel.push(NetlinkMessage::from(question), 0);
    let mut family = None;
    let refused = channel.answers(sequence, |bytes| {
        family = number(bytes);
        true
    });
    match refused.map_err(|source| Error::System { action: ACTION, source })? {
        None => Ok(family),
        Some(Refusal { errno: libc::ENOENT, .. }) => Ok(None),
        Some(refusal) => Err(Error::Unanswered { action: ACTION, refusal }),
    }
}

/// The number that an answer about a family names. What else it says (policies, operations) is not decoded.
fn number(bytes: &[u8]) -> Option<u16> {
    /// `struct nlmsghdr` and `struct genlmsghdr`.
    const HEADERS: usize = 16 + 4;
    const CTRL_ATTR_FAMILY_ID: u16 = 1;
    let value = attribute(bytes.get(HEADERS..)?, CTRL_ATTR_FAMILY_ID)?;
    Some(u16::from_ne_bytes(value.try_into().ok()?))
}

/// For the fuzzer: a device out of an answer; what it is told to be the same is nothing.
pub(crate) fn fuzz(message: &[u8]) {
    number(message);
    let Ok(Some(attributes)) = decode(message) else { return };
    let link: IfName = "wg-front".parse().expect("an interface's name");
    let device = peers::gathered(link, attributes.into_iter());
    assert!(!format!("{device:?}").contains("private_key"), "a key is shown");
    assert_eq!(own(&device, &device), []);
    let mut keys = std::collections::BTreeSet::new();
    if device.peers.iter().all(|peer| keys.insert(peer.key)) {
        let changes = peers::changes(&device, &device, &BTreeMap::new(), SystemTime::UNIX_EPOCH);
        assert!(changes.is_empty(), "{changes:?}");
    }
}

fn decode(bytes: &[u8]) -> Result<Option<Vec<WireguardAttribute>>, String> {
    match NetlinkMessage::<GenlMessage<WireguardMessage>>::deserialize(bytes) {
        Ok(NetlinkMessage { payload: NetlinkPayload::InnerMessage(message), .. }) => {
            Ok(Some(message.payload.attributes))
        }
        Ok(_) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
