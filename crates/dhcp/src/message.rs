//! What a client sends: DISCOVER, REQUEST in its four forms, RELEASE (RFC 2131, tables 4 and 5).

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Flags, MIN_PACKET_SIZE, Message, MessageType, OptionCode, UnknownOption};
use dhcproto::{Encodable, Encoder};
use serde::{Deserialize, Serialize};
use zeugma_model::{AttachmentId, Mac};

/// What a server may send in one datagram: an Ethernet frame's worth.
const LONGEST_REPLY: u16 = 1472;
/// Option 61 has a type byte and room for this many bytes more.
const CLIENT_ID_BYTES: usize = 254;

/// Who asks, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The interface's Ethernet address.
    pub mac: Mac,
    /// By what the server remembers the client (option 61): see [`Identity::client_id`].
    pub client_id: String,
    /// Options to tell the server.
    pub provide: Vec<Provided>,
    /// Options to ask the server for (option 55).
    pub request: Vec<u8>,
    /// Whether the server has to broadcast its replies: the interface cannot receive anything else yet.
    pub broadcast: bool,
}

/// An option that the client tells the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provided {
    /// Its number.
    pub code: u8,
    /// Its bytes, at most 255.
    pub value: String,
}

impl Identity {
    /// `containerID/network/ifname`, cut to 254 bytes: the reference's, so that a server knows its clients again.
    pub fn client_id(attachment: &AttachmentId) -> String {
        let AttachmentId { network, container, ifname } = attachment;
        let mut id = format!("{container}/{network}/{ifname}");
        while id.len() > CLIENT_ID_BYTES {
            id.pop();
        }
        id
    }
}

/// What is to be said, with the addresses that belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    /// Who has an address?
    Discover,
    /// That offer is accepted.
    Accept { address: Ipv4Addr, server: Ipv4Addr },
    /// Is this still ours? (INIT-REBOOT)
    Reboot { address: Ipv4Addr },
    /// For longer, please (RENEWING, REBINDING).
    Extend { address: Ipv4Addr },
    /// It is not needed any more.
    Release { address: Ipv4Addr, server: Ipv4Addr },
}

impl Say {
    fn kind(self) -> MessageType {
        match self {
            Self::Discover => MessageType::Discover,
            Self::Accept { .. } | Self::Reboot { .. } | Self::Extend { .. } => MessageType::Request,
            Self::Release { .. } => MessageType::Release,
        }
    }

    fn options(self) -> Vec<DhcpOption> {
        match self {
            Self::Accept { address, server } => {
                vec![DhcpOption::RequestedIpAddress(address), DhcpOption::ServerIdentifier(server)]
            }
            Self::Reboot { address } => vec![DhcpOption::RequestedIpAddress(address)],
            Self::Discover | Self::Extend { .. } => Vec::new(),
            Self::Release { server, .. } => vec![DhcpOption::ServerIdentifier(server)],
        }
    }

    /// `ciaddr`: only a client that answers for its address may fill it in.
    fn own_address(self) -> Ipv4Addr {
        match self {
            Self::Extend { address } | Self::Release { address, .. } => address,
            Self::Discover | Self::Accept { .. } | Self::Reboot { .. } => Ipv4Addr::UNSPECIFIED,
        }
    }
}

/// The message in bytes. `secs` is how long the client has been at it.
pub(crate) fn encode(identity: &Identity, xid: u32, secs: u16, say: Say) -> Vec<u8> {
    let nobody = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(xid, say.own_address(), nobody, nobody, nobody, &identity.mac.0);
    message.set_secs(secs);
    if identity.broadcast && !matches!(say, Say::Extend { .. } | Say::Release { .. }) {
        message.set_flags(Flags::default().set_broadcast());
    }
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(say.kind()));
    options.insert(DhcpOption::ClientIdentifier([&[0], identity.client_id.as_bytes()].concat()));
    for provided in &identity.provide {
        let value = provided.value.clone().into_bytes();
        options.insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::from(provided.code), value)));
    }
    if !matches!(say, Say::Release { .. }) {
        options.insert(DhcpOption::MaxMessageSize(LONGEST_REPLY));
        let request: Vec<OptionCode> = identity.request.iter().copied().map(OptionCode::from).collect();
        if !request.is_empty() {
            options.insert(DhcpOption::ParameterRequestList(request));
        }
    }
    say.options().into_iter().for_each(|option| drop(options.insert(option)));
    let mut bytes = Vec::with_capacity(MIN_PACKET_SIZE);
    message.encode(&mut Encoder::new(&mut bytes)).expect("a vector takes every byte");
    // Relays of BOOTP's time drop anything shorter.
    bytes.resize(bytes.len().max(MIN_PACKET_SIZE), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use dhcproto::{Decodable, Decoder};

    use super::*;

    fn identity() -> Identity {
        Identity {
            mac: Mac([2, 0, 0, 0, 0, 1]),
            client_id: "c/net/eth0".into(),
            provide: vec![Provided { code: 12, value: "web-0".into() }],
            request: vec![1, 3],
            broadcast: true,
        }
    }

    fn decoded(say: Say) -> Message {
        let bytes = encode(&identity(), 7, 3, say);
        assert!(bytes.len() >= MIN_PACKET_SIZE);
        Message::decode(&mut Decoder::new(&bytes)).unwrap()
    }

    #[test]
    fn a_discovery_says_who_asks_and_what_for() {
        let message = decoded(Say::Discover);
        assert_eq!((message.xid(), message.secs(), message.flags().broadcast()), (7, 3, true));
        let option = |code| message.opts().get(code).cloned();
        assert_eq!(option(OptionCode::Hostname), Some(DhcpOption::Hostname("web-0".into())));
        let id = DhcpOption::ClientIdentifier(b"\0c/net/eth0".to_vec());
        assert_eq!(option(OptionCode::ClientIdentifier), Some(id));
        let wanted = DhcpOption::ParameterRequestList(vec![OptionCode::SubnetMask, OptionCode::Router]);
        assert_eq!(option(OptionCode::ParameterRequestList), Some(wanted));
    }

    #[test]
    fn only_the_owner_of_an_address_names_it_as_its_own() {
        let (address, server) = (Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 1));
        let check = |say, own: bool, asks: bool, names_server: bool| {
            let message = decoded(say);
            assert_eq!(message.ciaddr() == address, own, "{say:?}");
            assert_eq!(message.opts().contains(OptionCode::RequestedIpAddress), asks, "{say:?}");
            assert_eq!(message.opts().contains(OptionCode::ServerIdentifier), names_server, "{say:?}");
        };
        check(Say::Discover, false, false, false);
        check(Say::Accept { address, server }, false, true, true);
        check(Say::Reboot { address }, false, true, false);
        check(Say::Extend { address }, true, false, false);
        check(Say::Release { address, server }, true, false, true);
    }

    #[test]
    fn a_provided_client_identifier_replaces_ours() {
        let mut identity = identity();
        identity.provide = vec![Provided { code: 61, value: "mine".into() }];
        let bytes = encode(&identity, 7, 0, Say::Discover);
        let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        let id = DhcpOption::ClientIdentifier(b"mine".to_vec());
        assert_eq!(message.opts().get(OptionCode::ClientIdentifier), Some(&id));
    }

    #[test]
    fn client_ids_are_the_reference_s_and_fit_the_option() {
        let attachment = |container: String| AttachmentId {
            network: "net".parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        assert_eq!(Identity::client_id(&attachment("c".into())), "c/net/eth0");
        let mut long = attachment("c".repeat(200));
        long.network = "n".repeat(200).parse().unwrap();
        assert_eq!(Identity::client_id(&long).len(), CLIENT_ID_BYTES);
    }
}
