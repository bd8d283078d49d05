//! What a server sends: OFFER, ACK, NAK, read with distrust.
//!
//! Only the options that a client here has a use for are decoded, each for itself: one that is malformed counts as
//! missing and hides none of the others. What they mean together: `terms`.

use std::collections::BTreeMap;

use dhcproto::v4::{DhcpOption, DhcpOptions, MAGIC, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder};
use zeugma_model::Mac;

use crate::Terms;

/// Everything before the options: the fixed fields and the magic cookie.
const FIXED: usize = 240;
/// Where `sname` and `file` are, which may hold options, too.
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

const PAD: u8 = 0;
const OVERLOAD: u8 = 52;
const END: u8 = 255;
/// Mask, routers, name servers, domain, static routes, lease time, message type, server, message, T1, T2, search
/// list, classless routes.
const USED: [u8; 13] = [1, 3, 6, 15, 33, 51, 53, 54, 56, 58, 59, 119, 121];

/// A server's message to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) kind: Kind,
    /// The transaction that it belongs to.
    pub(crate) xid: u32,
    /// Whom it is for.
    pub(crate) mac: Mac,
    /// What is offered or granted; none in a NAK, and where it would be no use.
    pub(crate) terms: Option<Terms>,
    /// Why it was refused.
    pub(crate) message: Option<String>,
}

/// Which message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Offer,
    Ack,
    Nak,
}

impl Reply {
    /// Reads the payload of a datagram; none when it is no reply to a client on Ethernet.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed = Message::decode(&mut Decoder::new(bytes.get(..FIXED)?)).ok()?;
        if fixed.opcode() != Opcode::BootReply || bytes[FIXED - 4..FIXED] != MAGIC || fixed.hlen() != 6 {
            return None;
        }
        let options = options(bytes);
        let kind = match options.msg_type()? {
            MessageType::Offer => Kind::Offer,
            MessageType::Ack => Kind::Ack,
            MessageType::Nak => Kind::Nak,
            _ => return None,
        };
        let message = match options.get(OptionCode::Message) {
            Some(DhcpOption::Message(text)) => Some(text.escape_debug().to_string()),
            _ => None,
        };
        let mac = Mac(fixed.chaddr().try_into().ok()?);
        let terms = if kind == Kind::Nak { None } else { Terms::of(fixed.yiaddr(), &options) };
        Some(Self { kind, xid: fixed.xid(), mac, terms, message })
    }
}

fn options(bytes: &[u8]) -> DhcpOptions {
    let mut found = BTreeMap::new();
    gather(&bytes[FIXED..], &mut found);
    let overload = found.remove(&OVERLOAD).and_then(|value| value.first().copied()).unwrap_or_default();
    for (flag, field) in [(1, FILE), (2, SNAME)] {
        if overload & flag != 0 {
            gather(&bytes[field], &mut found);
        }
    }
    found.into_iter().filter(|(code, _)| USED.contains(code)).filter_map(decoded).collect()
}

/// Splits into options; parts of the same one are put together (RFC 3396).
fn gather(mut field: &[u8], found: &mut BTreeMap<u8, Vec<u8>>) {
    while let Some((&code, rest)) = field.split_first() {
        if code == PAD {
            field = rest;
            continue;
        }
        let Some((value, after)) = rest.split_first().and_then(|(length, rest)| {
            (code != END).then(|| rest.split_at_checked(usize::from(*length))).flatten()
        }) else {
            return;
        };
        found.entry(code).or_default().extend(value);
        field = after;
    }
}

fn decoded((code, value): (u8, Vec<u8>)) -> Option<DhcpOption> {
    let mut whole = Vec::with_capacity(value.len() + 2);
    for part in value.chunks(255) {
        whole.extend([code, u8::try_from(part.len()).ok()?]);
        whole.extend(part);
    }
    DhcpOption::decode(&mut Decoder::new(&whole)).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// A reply with these options, a code and its bytes each.
    pub(crate) fn reply(xid: u32, kind: u8, address: [u8; 4], options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![2, 1, 6, 0];
        bytes.extend(xid.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend(address);
        bytes.extend([0; 8]);
        bytes.extend(MAC.0);
        bytes.resize(FIXED - 4, 0);
        bytes.extend(MAGIC);
        for (code, value) in [(53, &[kind][..])].iter().chain(options) {
            for part in value.chunks(255) {
                bytes.extend([*code, u8::try_from(part.len()).unwrap()]);
                bytes.extend(part);
            }
        }
        bytes.push(END);
        bytes
    }

    const SERVER: (u8, &[u8]) = (54, &[10, 0, 0, 1]);

    #[test]
    fn one_malformed_option_hides_no_other() {
        let wrong: [(u8, &[u8]); 4] = [(15, b"\xff\xfe"), (81, b""), (3, b"\x0a\x00"), (151, b"")];
        let options = [&wrong[..], &[SERVER, (1, &[255, 255, 255, 0])]].concat();
        let terms = Reply::parse(&reply(7, 2, [10, 0, 0, 9], &options)).unwrap().terms.unwrap();
        assert_eq!((terms.prefix, terms.domain, terms.routers), (Some(24), None, vec![]));
    }

    #[test]
    fn options_go_on_in_the_fields_for_names() {
        let mut bytes = reply(7, 5, [10, 0, 0, 9], &[SERVER, (52, &[3])]);
        bytes[FILE.start..FILE.start + 6].copy_from_slice(&[1, 4, 255, 255, 0, 0]);
        bytes[SNAME.start..SNAME.start + 6].copy_from_slice(&[3, 4, 10, 0, 0, 1]);
        let terms = Reply::parse(&bytes).unwrap().terms.unwrap();
        assert_eq!((terms.prefix, terms.routers), (Some(16), vec![[10, 0, 0, 1].into()]));
    }

    #[test]
    fn a_list_longer_than_one_option_is_read_whole() {
        let servers: Vec<u8> = (0..70).flat_map(|number| [10, 0, 1, number]).collect();
        let bytes = reply(7, 5, [10, 0, 0, 9], &[SERVER, (6, &servers)]);
        assert_eq!(Reply::parse(&bytes).unwrap().terms.unwrap().nameservers.len(), 70);
    }

    #[test]
    fn a_refusal_says_why_and_cannot_forge_a_line_of_the_log() {
        let bytes = reply(7, 6, [0; 4], &[SERVER, (56, b"wrong\nnetwork")]);
        let Reply { kind, terms, message, .. } = Reply::parse(&bytes).unwrap();
        assert_eq!((kind, terms), (Kind::Nak, None));
        assert_eq!(message.as_deref(), Some("wrong\\nnetwork"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            crate::fuzz_dhcp_reply(&bytes);
        }

        #[test]
        fn no_option_makes_it_panic(options in prop::collection::vec((0u8.., prop::collection::vec(0u8.., 0..300)), 0..8)) {
            let options: Vec<(u8, &[u8])> = options.iter().map(|(code, value)| (*code, &value[..])).collect();
            crate::fuzz_dhcp_reply(&reply(7, 5, [10, 0, 0, 9], &options));
        }
    }
}
