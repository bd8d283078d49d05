//! The ruleset value → netlink messages.

use netlink_packet_core::{DefaultNla, Emitable, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook,
    HookNumber, Immediate, InetHookNumber, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator,
    Payload, Register, RuleAttribute, RuleMessage, SetAttribute, SetDescription, SetFlags, SetMessage,
    TableAttribute, TableMessage, Verdict, VerdictAttribute,
};
use zeugma_plan::Family;
use zeugma_plan::nft::{ADMIN, Action, Chain, Field, Match, Rule, Ruleset, SetId};

use super::uapi::{
    ACCEPT, CT_STATUS, DNAT, DST_NAT, FIB_ADDRTYPE, FIB_DADDR, NESTED, NETWORK, REGISTER, RTN_LOCAL,
    TRANSPORT, TYPE_BITS, UDATA_COMMENT,
};
use super::{Change, protocol};

/// `NFTNL_UDATA_SET_KEYBYTEORDER`, 4 bytes, `BYTEORDER_HOST_ENDIAN`: without it nft prints interface names as "".
const HOST_ENDIAN_KEY: [u8; 6] = {
    let [a, b, c, d] = 1_u32.to_ne_bytes();
    [0, 4, a, b, c, d]
};
/// `NF_DROP`.
const DROP: u32 = 0;
/// The bits of `ct state` (`NF_CT_STATE_BIT`).
const ESTABLISHED_RELATED: u32 = (1 << 1) | (1 << 2);
/// `NFT_CT_STATE`.
const CT_STATE: u32 = 0;
/// `NFT_PAYLOAD_LL_HEADER`.
const LINK_LAYER: u32 = 0;
/// Where the flags are in a TCP header (RFC 9293, 3.1), and two of them.
const TCP_FLAGS: u32 = 13;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
/// `NFT_RT_TCPMSS`.
const RT_TCPMSS: u32 = 3;
/// `NFT_BYTEORDER_HTON`.
const HTON: u32 = 1;
/// `NFT_EXTHDR_OP_TCPOPT`; `TCPOPT_MAXSEG`, and where in that option the size is.
const EXTHDR_TCPOPT: u32 = 1;
const TCPOPT_MAXSEG: u8 = 2;
const MAXSEG_OFFSET: u32 = 2;

type Expression = ListAttribute<ExpressionAttribute>;

/// The transaction that makes the table; it fails as a whole when the table is there already.
pub(super) fn messages(ruleset: &Ruleset) -> Vec<Change> {
    let family = ruleset.family;
    let mut changes = vec![(family, new_table(ruleset), NLM_F_CREATE | NLM_F_EXCL)];
    changes.extend(frame(ruleset));
    for chain in &ruleset.chains {
        changes.extend(rules(ruleset, chain));
    }
    changes
}

/// What brings a table to this version, or makes it. The rules of our chains are written anew; the administrator's stay.
pub(super) fn completing(ruleset: &Ruleset) -> Vec<Change> {
    let family = ruleset.family;
    let mut changes = vec![(family, new_table(ruleset), NLM_F_CREATE)];
    changes.extend(frame(ruleset));
    for chain in ruleset.chains.iter().filter(|chain| chain.name != ADMIN) {
        changes.push((family, rules_to_delete(ruleset.table, chain), 0));
        changes.extend(rules(ruleset, chain));
    }
    changes
}

/// Sets and chains; those that are there stay.
fn frame(ruleset: &Ruleset) -> impl Iterator<Item = Change> {
    let (family, table) = (ruleset.family, ruleset.table);
    let sets =
        (1..).zip(&ruleset.sets).map(move |(id, set)| (family, new_set(table, *set, id), NLM_F_CREATE));
    sets.chain(ruleset.chains.iter().map(move |chain| (family, new_chain(table, chain), NLM_F_CREATE)))
}

fn rules(ruleset: &Ruleset, chain: &Chain) -> impl Iterator<Item = Change> {
    let (family, table) = (ruleset.family, ruleset.table);
    chain.rules.iter().map(move |rule| (family, new_rule(table, chain, rule), NLM_F_CREATE | NLM_F_APPEND))
}

fn rules_to_delete(table: &str, chain: &Chain) -> NfTablesMessage {
    NfTablesMessage::DeleteRule(RuleMessage {
        attributes: vec![RuleAttribute::Table(table.into()), RuleAttribute::Chain(chain.name.into())],
    })
}

fn new_table(ruleset: &Ruleset) -> NfTablesMessage {
    let (name, stamp) = (ruleset.table, ruleset.stamp);
    let mut comment = vec![UDATA_COMMENT, stamp.len() as u8 + 1];
    comment.extend(stamp.as_bytes());
    comment.push(0);
    NfTablesMessage::NewTable(TableMessage {
        attributes: vec![TableAttribute::Name(name.into()), TableAttribute::UserData(comment)],
    })
}

pub(super) fn table_to_delete(name: &str) -> NfTablesMessage {
    NfTablesMessage::DeleteTable(TableMessage { attributes: vec![TableAttribute::Name(name.into())] })
}

pub(super) fn new_set(table: &str, set: SetId, id: u32) -> NfTablesMessage {
    let (key, data) = (set.key(), set.data());
    let mut flags = SetFlags::empty();
    if set.is_interval() {
        flags |= SetFlags::Interval;
    }
    let mut attributes = vec![
        SetAttribute::Table(table.into()),
        SetAttribute::Name(set.name()),
        SetAttribute::KeyType(concatenated_type(&key)),
        SetAttribute::KeyLen(length(&key)),
        SetAttribute::Id(id),
    ];
    if !data.is_empty() {
        flags |= SetFlags::Map;
        attributes.push(SetAttribute::DataType(concatenated_type(&data)));
        attributes.push(SetAttribute::DataLen(length(&data)));
    }
    if key.len() > 1 {
        flags |= SetFlags::Concat;
        attributes.push(SetAttribute::Description(vec![SetDescription::Concat(field_lengths(&key))]));
    }
    if matches!(key[..], [Field::IifName | Field::OifName]) {
        attributes.push(SetAttribute::UserData(HOST_ENDIAN_KEY.into()));
    }
    attributes.push(SetAttribute::Flags(flags));
    attributes.extend(key_byte_order(&key).map(SetAttribute::UserData));
    NfTablesMessage::NewSet(SetMessage { attributes })
}

/// For listings: nft takes the keys of a set for big endian, and interface names are not
/// (`NFTNL_UDATA_SET_KEYBYTEORDER`, `BYTEORDER_HOST_ENDIAN`). In concatenations it goes by the types.
fn key_byte_order(key: &[Field]) -> Option<Vec<u8>> {
    const KEY_BYTE_ORDER: u8 = 0;
    const HOST_ENDIAN: u32 = 1;
    let mut userdata = vec![KEY_BYTE_ORDER, 4];
    userdata.extend(HOST_ENDIAN.to_ne_bytes());
    matches!(key, [Field::IifName | Field::OifName]).then_some(userdata)
}

fn concatenated_type(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |number, field| (number << TYPE_BITS) | field.nft_type())
}

/// Concatenated fields are padded; a single one is not.
fn length(fields: &[Field]) -> u32 {
    match fields {
        [field] => field.width() as u32,
        _ => fields.iter().map(|field| field.padded_width() as u32).sum(),
    }
}

/// `NFTA_LIST_ELEM` { `NFTA_SET_FIELD_LEN` } for each field.
fn field_lengths(fields: &[Field]) -> Vec<DefaultNla> {
    fields
        .iter()
        .map(|field| DefaultNla::new(1 | NESTED, encoded(&[number(1, field.width() as u32)])))
        .collect()
}

fn encoded(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

/// nf_tables' numbers are big endian.
fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

pub(super) fn new_chain(table: &str, chain: &Chain) -> NfTablesMessage {
    let mut attributes = vec![ChainAttribute::Table(table.into()), ChainAttribute::Name(chain.name.into())];
    if let Some(hook) = chain.hook {
        attributes.push(ChainAttribute::Hook(vec![
            Hook::Number(HookNumber::Inet(InetHookNumber::from(hook.number))),
            Hook::Priority(hook.priority as u32),
        ]));
        attributes.push(ChainAttribute::Policy(ACCEPT));
        attributes.push(ChainAttribute::Type(hook.kind.into()));
    }
    NfTablesMessage::NewChain(ChainMessage { attributes })
}

pub(super) fn new_rule(table: &str, chain: &Chain, rule: &Rule) -> NfTablesMessage {
    let mut expressions: Vec<Expression> = rule.matches.iter().flat_map(conditions).collect();
    expressions.extend(action(&rule.action));
    NfTablesMessage::NewRule(RuleMessage {
        attributes: vec![
            RuleAttribute::Table(table.into()),
            RuleAttribute::Chain(chain.name.into()),
            RuleAttribute::Expressions(expressions),
        ],
    })
}

fn conditions(condition: &Match) -> Vec<Expression> {
    match condition {
        Match::Family(family) => {
            vec![
                meta(MetaKey::Nfproto, REGISTER),
                compare(Operator::Equal, vec![u8::from(protocol(*family))]),
            ]
        }
        Match::In(set) => looked_up(*set),
        Match::OutIn(set) => {
            let fields: Vec<Field> = set.key().into_iter().map(Field::counterpart).collect();
            loads(&fields).into_iter().chain([lookup(*set, None)]).collect()
        }
        Match::NotFromLo => {
            let mut name = vec![0; Field::IifName.width()];
            name[..2].copy_from_slice(b"lo");
            vec![meta(MetaKey::Iifname, REGISTER), compare(Operator::NotEqual, name)]
        }
        Match::SaddrIn(prefix) => {
            prefix_match(Field::Saddr(Family::of(prefix.ip())), *prefix, Operator::Equal)
        }
        Match::DaddrIn(prefix) => {
            prefix_match(Field::Daddr(Family::of(prefix.ip())), *prefix, Operator::Equal)
        }
        Match::DaddrNotIn(prefix) => {
            prefix_match(Field::Daddr(Family::of(prefix.ip())), *prefix, Operator::NotEqual)
        }
        Match::Established => bits(CT_STATE, ESTABLISHED_RELATED),
        Match::Dnatted => bits(CT_STATUS, DST_NAT),
        Match::ToLocal => vec![
            other("fib", [number(1, REGISTER), number(2, FIB_ADDRTYPE), number(3, FIB_DADDR)]),
            compare(Operator::Equal, RTN_LOCAL.to_ne_bytes().to_vec()),
        ],
        Match::Transport(protocol) => {
            vec![load(Field::L4Proto, REGISTER), compare(Operator::Equal, vec![protocol.number()])]
        }
        Match::Dport(port) => {
            vec![load(Field::Dport, REGISTER), compare(Operator::Equal, port.to_be_bytes().to_vec())]
        }
        Match::Syn => {
            let flags = payload(TRANSPORT, TCP_FLAGS, 1, REGISTER);
            vec![flags, masked(vec![SYN | RST]), compare(Operator::Equal, vec![SYN])]
        }
    }
}

fn looked_up(set: SetId) -> Vec<Expression> {
    let mut expressions = loads(&set.key());
    expressions.push(lookup(set, None));
    expressions
}

/// Loads fields into consecutive registers.
fn loads(fields: &[Field]) -> Vec<Expression> {
    let mut register = REGISTER;
    let mut expressions = Vec::new();
    for field in fields {
        expressions.push(load(*field, register));
        register += field.padded_width() as u32 / 4;
    }
    expressions
}

fn load(field: Field, register: u32) -> Expression {
    match field {
        Field::Saddr(Family::V4) => payload(NETWORK, 12, 4, register),
        Field::Saddr(Family::V6) => payload(NETWORK, 8, 16, register),
        Field::Daddr(Family::V4) => payload(NETWORK, 16, 4, register),
        Field::Daddr(Family::V6) => payload(NETWORK, 24, 16, register),
        Field::L4Proto => meta(MetaKey::L4Proto, register),
        Field::Dport => payload(TRANSPORT, 2, 2, register),
        Field::EtherSaddr => payload(LINK_LAYER, 6, 6, register),
        Field::IifName => meta(MetaKey::Iifname, register),
        Field::OifName => meta(MetaKey::Oifname, register),
    }
}

fn action(action: &Action) -> Vec<Expression> {
    match action {
        Action::Accept => vec![verdict(Verdict::Other(ACCEPT), None)],
        Action::Drop => vec![verdict(Verdict::Other(DROP), None)],
        Action::Return => vec![verdict(Verdict::Return, None)],
        Action::Jump(chain) => vec![verdict(Verdict::Jump, Some(chain))],
        Action::Goto(chain) => vec![verdict(Verdict::Goto, Some(chain))],
        Action::Masquerade => vec![other("masq", [])],
        Action::DnatMap(map) => dnat(*map),
        Action::DnatTo(to) => {
            let port = REGISTER + 1;
            vec![
                immediate(REGISTER, to.ip().octets().to_vec()),
                immediate(port, to.port().to_be_bytes().to_vec()),
                translate(Family::V4, port),
            ]
        }
        Action::ClampMss => clamp_mss(),
    }
}

/// What fits into the route's MTU, into the option where it is smaller than what stands there (`nft_exthdr.c`).
fn clamp_mss() -> Vec<Expression> {
    const BYTES: u32 = 2;
    vec![
        other("rt", [number(1, REGISTER), number(2, RT_TCPMSS)]),
        other(
            "byteorder",
            [number(1, REGISTER), number(2, REGISTER), number(3, HTON), number(4, BYTES), number(5, BYTES)],
        ),
        other(
            "exthdr",
            [
                DefaultNla::new(2, vec![TCPOPT_MAXSEG]),
                number(3, MAXSEG_OFFSET),
                number(4, BYTES),
                number(6, EXTHDR_TCPOPT),
                number(7, REGISTER),
            ],
        ),
    ]
}

/// The map's data lies in registers as address, then port.
fn dnat(map: SetId) -> Vec<Expression> {
    let mut expressions = loads(&map.key());
    expressions.push(lookup(map, Some(REGISTER)));
    let family = match map.data().first() {
        Some(Field::Daddr(Family::V6)) => Family::V6,
        _ => Family::V4,
    };
    let port = REGISTER + family.address_len() as u32 / 4;
    expressions.push(translate(family, port));
    expressions
}

/// The new destination is in the registers, its port in that of `port`.
fn translate(family: Family, port: u32) -> Expression {
    let attributes =
        [number(1, DNAT), number(2, u8::from(protocol(family)).into()), number(3, REGISTER), number(5, port)];
    other("nat", attributes)
}

fn immediate(register: u32, data: Vec<u8>) -> Expression {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Other(register)),
        Immediate::Data(DataAttribute::Value(data)),
    ])
    .into()
}

/// The bits of the register that the mask has.
fn masked(mask: Vec<u8>) -> Expression {
    let length = mask.len();
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Other(REGISTER)),
        Bitwise::DestinationRegister(Register::Other(REGISTER)),
        Bitwise::Length(length as u32),
        Bitwise::Mask(DataAttribute::Value(mask)),
        Bitwise::Xor(DataAttribute::Value(vec![0; length])),
    ])
    .into()
}

fn bits(key: u32, mask: u32) -> Vec<Expression> {
    vec![
        other("ct", [number(1, REGISTER), number(2, key)]),
        masked(mask.to_ne_bytes().to_vec()),
        compare(Operator::NotEqual, vec![0; 4]),
    ]
}

fn prefix_match(field: Field, prefix: ipnetwork::IpNetwork, operator: Operator) -> Vec<Expression> {
    let length = field.width() as u32;
    let octets = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let mut expressions = vec![load(field, REGISTER)];
    if u32::from(prefix.prefix()) < length * 8 {
        expressions.push(masked(octets(prefix.mask())));
    }
    expressions.push(compare(operator, octets(prefix.network())));
    expressions
}

fn meta(key: MetaKey, register: u32) -> Expression {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Other(register))]).into()
}

fn payload(base: u32, offset: u32, length: u32, register: u32) -> Expression {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Other(register)),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
    .into()
}

fn compare(operator: Operator, data: Vec<u8>) -> Expression {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Other(REGISTER)),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(data)),
    ])
    .into()
}

fn lookup(set: SetId, to: Option<u32>) -> Expression {
    let mut attributes = vec![Lookup::Set(set.name()), Lookup::SourceRegister(Register::Other(REGISTER))];
    attributes.extend(to.map(|register| Lookup::DestinationRegister(Register::Other(register))));
    Expressions::Lookup(attributes).into()
}

fn verdict(code: Verdict, chain: Option<&str>) -> Expression {
    let mut attributes = vec![VerdictAttribute::Code(code)];
    attributes.extend(chain.map(|chain| VerdictAttribute::Chain(chain.into())));
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(attributes)),
    ])
    .into()
}

/// An expression that the library has no type for.
fn other<const N: usize>(name: &str, attributes: [DefaultNla; N]) -> Expression {
    Expressions::Other { expression_type: name.into(), attributes: attributes.into() }.into()
}
