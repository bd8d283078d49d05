//! The table of services → netlink messages.

use zeugma_plan::Family;
use zeugma_plan::nft::services::{
    Action, Chain, Load, Match, Place, Rule, STAMP, Set, Skeleton, TABLE, Type, Way,
};

use super::super::uapi::{
    ACCEPT, CT_STATUS, DATA_VALUE, DNAT, DST_NAT, FIB_ADDRTYPE, FIB_DADDR, LIST_ELEMENT, NETWORK, REGISTER,
    RTN_LOCAL, TRANSPORT, TYPE_BITS,
};
use super::super::writer::Writer;
use super::elements;
use super::message::{Kind, Transaction};

/// `NFT_REG_VERDICT`.
const VERDICT: u32 = 0;
/// `NFT_DATA_VERDICT` as a set's data type.
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// `enum nft_set_flags`.
const INTERVAL: u32 = 0x4;
const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;
const EVAL: u32 = 0x20;
const CONCAT: u32 = 0x80;
/// `enum nft_verdicts`.
const GOTO: u32 = -4_i32 as u32;
const JUMP: u32 = -3_i32 as u32;
const RETURN: u32 = -5_i32 as u32;
/// `NFTA_DATA_VERDICT`.
const DATA_VERDICT: u16 = 2;
/// `enum nft_meta_keys`.
const META_OIF: u32 = 5;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
/// `enum nft_ct_keys`.
const CT_PROTO_DST: u32 = 12;
const CT_DST_IP: u32 = 20;
const CT_DST_IP6: u32 = 22;
/// `enum nft_cmp_ops`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// `enum nft_fib_result`, `enum nft_fib_flags`, `enum rtn_type`, and the index of `lo`.
const FIB_OIF: u32 = 1;
const FIB_SADDR: u32 = 1 << 0;
const RTN_UNICAST: u32 = 1;
const RTN_UNREACHABLE: u32 = 7;
const LO: u32 = 1;
/// `NFT_NAT_SNAT`.
const SNAT: u32 = 0;
/// `NFT_NG_RANDOM`.
const RANDOM: u32 = 1;
/// `enum nft_dynset_ops`.
const UPDATE: u32 = 1;
/// `enum nft_reject_types` and `NFT_REJECT_ICMPX_PORT_UNREACH`.
const TCP_RESET: u32 = 1;
const ICMPX_UNREACHABLE: u32 = 2;
const PORT_UNREACHABLE: u8 = 1;
/// IANA.
const IPPROTO_ICMP: u8 = 1;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_ICMPV6: u8 = 58;

/// Pushes the messages that make the table.
pub(super) fn push(transaction: &mut Transaction<'_>, skeleton: &Skeleton) {
    transaction.push(Kind::NewTable, |table| {
        table.text(1, TABLE);
        table.with(6, |bytes| {
            bytes.extend([0, STAMP.len() as u8 + 1]);
            bytes.extend(STAMP.as_bytes());
            bytes.push(0);
        });
    });
    for (id, set) in (1..).zip(&skeleton.sets) {
        transaction.push(Kind::NewSet, |message| new_set(message, *set, skeleton.size(*set), id));
    }
    for chain in &skeleton.chains {
        transaction.push(Kind::NewChain, |message| new_chain(message, chain));
    }
    for set in &skeleton.sets {
        let of_set: Vec<&Way> = skeleton.ways.iter().filter(|way| way.set == *set).collect();
        if !of_set.is_empty() {
            transaction.push(Kind::NewElements, |message| ways(message, &of_set));
        }
    }
    for chain in &skeleton.chains {
        for rule in &chain.rules {
            transaction.push(Kind::NewRule, |message| {
                message.text(1, TABLE);
                message.text(2, &chain.name);
                message.nest(4, |list| encode_rule(&mut Rules { list }, rule));
            });
        }
    }
}

fn new_set(message: &mut Writer<'_>, set: Set, size: Option<u32>, id: u32) {
    let (key, data) = (set.key(), set.data());
    let mut flags = 0;
    let mut set_flag = |condition, flag| flags |= if condition { flag } else { 0 };
    set_flag(set.is_interval(), INTERVAL);
    set_flag(!data.is_empty(), MAP);
    set_flag(set.is_dynamic(), TIMEOUT | EVAL);
    set_flag(key.len() > 1, CONCAT);
    message.text(1, TABLE);
    message.text(2, &set.name());
    message.number(3, flags);
    message.number(4, concatenated_type(&key));
    message.number(5, length(&key));
    if data == [Type::Verdict] {
        message.number(6, VERDICT_TYPE);
    } else if !data.is_empty() {
        message.number(6, concatenated_type(&data));
        message.number(7, length(&data));
    }
    if let Some(size) = size {
        message.nest(9, |desc| desc.number(1, size));
    } else if key.len() > 1 {
        message.nest(9, |desc| {
            desc.nest(2, |fields| {
                for field in &key {
                    fields.nest(LIST_ELEMENT, |field_| field_.number(1, field.width() as u32));
                }
            });
        });
    }
    message.number(10, id);
    message.with(13, |userdata| userdata.extend(byte_orders(set)));
}

/// For listings: nft takes single numbers for big endian (`NFTNL_UDATA_SET_KEYBYTEORDER`, `…DATABYTEORDER`).
fn byte_orders(set: Set) -> Vec<u8> {
    const HOST_ENDIAN: u32 = 1;
    const BIG_ENDIAN: u32 = 2;
    let mut userdata = Vec::new();
    for (kind, types) in [(0, set.key()), (1, set.data())] {
        if let [one] = types[..] {
            let order = if one == Type::Number { HOST_ENDIAN } else { BIG_ENDIAN };
            userdata.extend([kind, 4]);
            userdata.extend(order.to_ne_bytes());
        }
    }
    userdata
}

fn concatenated_type(fields: &[Type]) -> u32 {
    fields.iter().fold(0, |number, field| (number << TYPE_BITS) | field.nft_type())
}

/// Concatenated fields are padded; a single one is not.
fn length(fields: &[Type]) -> u32 {
    match fields {
        [field] => field.width() as u32,
        _ => fields.iter().map(|field| field.padded_width() as u32).sum(),
    }
}

fn new_chain(message: &mut Writer<'_>, chain: &Chain) {
    message.text(1, TABLE);
    message.text(3, &chain.name);
    if let Some(hook) = chain.hook {
        message.nest(4, |attributes| {
            attributes.number(1, hook.number);
            attributes.number(2, hook.priority as u32);
        });
        message.number(5, ACCEPT);
        message.text(7, hook.kind);
    }
}

fn ways(message: &mut Writer<'_>, ways: &[&Way]) {
    elements::header(message, ways[0].set);
    // Who is remembered goes on with what becomes of the source.
    let code = if matches!(ways[0].set, Set::Remember(..)) { JUMP } else { GOTO };
    message.nest(elements::LIST, |list| {
        for way in ways {
            list.nest(LIST_ELEMENT, |element| {
                element.nest(elements::KEY, |key| key.bytes(DATA_VALUE, &way.number.to_ne_bytes()));
                element.nest(elements::DATA, |data| verdict(data, code, Some(&way.chain)));
            });
        }
    });
}

fn verdict(data: &mut Writer<'_>, code: u32, chain: Option<&str>) {
    data.nest(DATA_VERDICT, |verdict| {
        verdict.number(1, code);
        if let Some(chain) = chain {
            verdict.text(2, chain);
        }
    });
}

/// A list of expressions.
struct Rules<'a, 'b> {
    list: &'a mut Writer<'b>,
}

fn encode_rule(rules: &mut Rules<'_, '_>, rule: &Rule) {
    for condition in &rule.matches {
        rules.condition(condition);
    }
    rules.action(&rule.action);
}

impl Rules<'_, '_> {
    fn expression(&mut self, name: &str, write: impl FnOnce(&mut Writer<'_>)) {
        self.list.nest(LIST_ELEMENT, |expression| {
            expression.text(1, name);
            expression.nest(2, write);
        });
    }

    /// Numbers as attributes.
    fn plain(&mut self, name: &str, attributes: &[(u16, u32)]) {
        self.expression(name, |data| {
            for (kind, value) in attributes {
                data.number(*kind, *value);
            }
        });
    }

    fn condition(&mut self, condition: &Match) {
        match condition {
            Match::Family(family) => {
                self.plain("meta", &[(1, REGISTER), (2, META_NFPROTO)]);
                self.compare(EQUAL, &[family_number(*family) as u8]);
            }
            Match::Tcp => self.protocol_is(IPPROTO_TCP),
            Match::Echo(family) => {
                let (protocol, request) = match family {
                    Family::V4 => (IPPROTO_ICMP, 8),
                    Family::V6 => (IPPROTO_ICMPV6, 128),
                };
                self.protocol_is(protocol);
                self.payload(TRANSPORT, 0, 1, REGISTER);
                self.compare(EQUAL, &[request]);
            }
            Match::In(loads, set) => {
                self.loads(loads);
                self.lookup(*set, REGISTER, None);
            }
            Match::NotToLoopback(Family::V4) => {
                self.payload(NETWORK, 16, 1, REGISTER);
                self.compare(NOT_EQUAL, &[127]);
            }
            Match::NotToLoopback(Family::V6) => {
                self.load(Load::Daddr(Family::V6), REGISTER);
                self.compare(NOT_EQUAL, &std::net::Ipv6Addr::LOCALHOST.octets());
            }
            Match::ToLocal => self.fib(FIB_ADDRTYPE, FIB_DADDR, RTN_LOCAL),
            Match::FromLocal => self.fib(FIB_ADDRTYPE, FIB_SADDR, RTN_LOCAL),
            Match::ToHeld(Family::V4) => self.fib(FIB_ADDRTYPE, FIB_DADDR, RTN_UNICAST),
            Match::ToHeld(Family::V6) => self.fib(FIB_ADDRTYPE, FIB_DADDR, RTN_UNREACHABLE),
            Match::WayByLo => self.fib(FIB_OIF, FIB_DADDR, LO),
            Match::LeavesByLo => {
                self.plain("meta", &[(1, REGISTER), (2, META_OIF)]);
                self.compare(EQUAL, &LO.to_ne_bytes());
            }
            Match::Dnatted => self.bits(CT_STATUS, DST_NAT),
        }
    }

    fn action(&mut self, action: &Action) {
        match action {
            Action::Return => self.verdict(RETURN, None),
            Action::Jump(chain) => self.verdict(JUMP, Some(chain)),
            Action::Goto(chain) => self.verdict(GOTO, Some(chain)),
            Action::Dispatch(loads, map, place, ways) => {
                let number = self.numbers(loads, *map) + u32::from(*place == Place::Third);
                self.lookup(*ways, number, Some(VERDICT));
            }
            Action::Dnat(loads, map) => {
                self.loads(loads);
                self.lookup(*map, REGISTER, Some(REGISTER));
                self.dnat(map.family(), REGISTER);
            }
            Action::Remember(loads, map, seconds) => self.remember(loads, *map, *seconds),
            Action::Redirect => self.plain("redir", &[]),
            Action::Masquerade => self.plain("masq", &[]),
            Action::KeepSource(family) => {
                self.load(Load::Saddr(*family), REGISTER);
                self.plain("nat", &[(1, SNAT), (2, family_number(*family)), (3, REGISTER)]);
            }
            Action::Reset => self.expression("reject", |data| {
                data.number(1, TCP_RESET);
                data.bytes(2, &[0]);
            }),
            Action::Unreachable => self.expression("reject", |data| {
                data.number(1, ICMPX_UNREACHABLE);
                data.bytes(2, &[PORT_UNREACHABLE]);
            }),
        }
    }

    /// Loads values into consecutive registers; returns the register after them.
    fn loads(&mut self, loads: &[Load]) -> u32 {
        let mut register = REGISTER;
        for load in loads {
            self.load(*load, register);
            register += registers(load.of_type());
        }
        register
    }

    fn load(&mut self, load: Load, register: u32) {
        match load {
            Load::Saddr(Family::V4) => self.payload(NETWORK, 12, 4, register),
            Load::Saddr(Family::V6) => self.payload(NETWORK, 8, 16, register),
            Load::Daddr(Family::V4) => self.payload(NETWORK, 16, 4, register),
            Load::Daddr(Family::V6) => self.payload(NETWORK, 24, 16, register),
            Load::AnyAddress(family) => self.immediate(&[0; 16][..family.address_len()], register),
            Load::Protocol => self.plain("meta", &[(1, register), (2, META_L4PROTO)]),
            Load::Dport => self.payload(TRANSPORT, 2, 2, register),
            Load::OriginalDaddr(Family::V4) => self.original(CT_DST_IP, register),
            Load::OriginalDaddr(Family::V6) => self.original(CT_DST_IP6, register),
            Load::OriginalDport => self.original(CT_PROTO_DST, register),
            Load::Random(modulus) => {
                self.plain("numgen", &[(1, register), (2, modulus), (3, RANDOM), (4, 0)])
            }
        }
    }

    fn immediate(&mut self, value: &[u8], register: u32) {
        self.expression("immediate", |data| {
            data.number(1, register);
            data.nest(2, |data| data.bytes(DATA_VALUE, value));
        });
    }

    /// Of the flow's original direction.
    fn original(&mut self, key: u32, register: u32) {
        self.expression("ct", |data| {
            data.number(1, register);
            data.number(2, key);
            data.bytes(3, &[0]);
        });
    }

    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        self.plain("payload", &[(1, register), (2, base), (3, offset), (4, length)]);
    }

    fn protocol_is(&mut self, protocol: u8) {
        self.load(Load::Protocol, REGISTER);
        self.compare(EQUAL, &[protocol]);
    }

    fn fib(&mut self, question: u32, whose: u32, answer: u32) {
        self.plain("fib", &[(1, REGISTER), (2, question), (3, whose)]);
        self.compare(EQUAL, &answer.to_ne_bytes());
    }

    fn bits(&mut self, key: u32, mask: u32) {
        self.plain("ct", &[(1, REGISTER), (2, key)]);
        self.expression("bitwise", |data| {
            data.number(1, REGISTER);
            data.number(2, REGISTER);
            data.number(3, 4);
            data.nest(4, |data| data.bytes(DATA_VALUE, &mask.to_ne_bytes()));
            data.nest(5, |data| data.bytes(DATA_VALUE, &[0; 4]));
        });
        self.compare(NOT_EQUAL, &[0; 4]);
    }

    /// Looks a frontend up; returns the register of the data's second number, where the protocol was. The third is
    /// where the port was ([`Action::Dispatch`] says why).
    fn numbers(&mut self, frontend: &[Load], map: Set) -> u32 {
        self.loads(frontend);
        let protocol = REGISTER + registers(frontend[0].of_type());
        self.lookup(map, REGISTER, Some(protocol - 1));
        protocol
    }

    fn compare(&mut self, operator: u32, value: &[u8]) {
        self.expression("cmp", |data| {
            data.number(1, REGISTER);
            data.number(2, operator);
            data.nest(3, |data| data.bytes(DATA_VALUE, value));
        });
    }

    fn lookup(&mut self, set: Set, from: u32, to: Option<u32>) {
        self.expression("lookup", |data| {
            data.text(1, &set.name());
            data.number(2, from);
            if let Some(register) = to {
                data.number(3, register);
            }
        });
    }

    /// The endpoint lies in registers as address, then port.
    fn dnat(&mut self, family: Family, address: u32) {
        let port = address + registers(Type::Address(family));
        self.plain("nat", &[(1, DNAT), (2, family_number(family)), (3, address), (5, port)]);
    }

    /// The data is the packet's destination.
    fn remember(&mut self, loads: &[Load], map: Set, seconds: u32) {
        let data_register = self.loads(loads);
        let family = map.family();
        self.load(Load::Daddr(family), data_register);
        self.load(Load::Dport, data_register + registers(Type::Address(family)));
        self.expression("dynset", |data| {
            data.text(1, &map.name());
            data.number(3, UPDATE);
            data.number(4, REGISTER);
            data.number(5, data_register);
            data.bytes(6, &(u64::from(seconds) * 1000).to_be_bytes());
        });
    }

    fn verdict(&mut self, code: u32, chain: Option<&str>) {
        self.expression("immediate", |data| {
            data.number(1, VERDICT);
            data.nest(2, |data| verdict(data, code, chain));
        });
    }
}

/// How many registers a value takes.
fn registers(of: Type) -> u32 {
    of.padded_width() as u32 / 4
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
fn family_number(family: Family) -> u32 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}
