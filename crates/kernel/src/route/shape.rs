//! Limits and redirections → traffic control messages. What is there already: shaped.rs.
//!
//! The structures are those of `linux/pkt_sched.h`; the library knows u32 and mirred, not tbf and htb.

use std::net::IpAddr;

use libc::{ETH_P_ALL, ETH_P_IP, ETH_P_IPV6};
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirror, TcActionMirrorOption, TcActionOption,
    TcActionType, TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcMirror,
    TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
};
use zeugma_model::IfName;
use zeugma_plan::{End, Exceptions, Shaper, Step, TokenBucket};

use super::encode::Request;
use crate::Error;

/// The queue at the root of a link.
pub(super) const ROOT: TcHandle = TcHandle { major: Shaper::ROOT, minor: 0 };
/// The class that is limited.
pub(super) const LIMITED: TcHandle = TcHandle { major: Shaper::ROOT, minor: Shaper::LIMITED };
/// That class's queue.
const LEAF: TcHandle = TcHandle { major: Shaper::LEAF, minor: 0 };
/// The place where filters for incoming packets are.
pub(super) const INGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0 };

pub(super) const TCA_TBF_PARMS: u16 = 1;
pub(super) const TCA_TBF_RATE64: u16 = 4;
pub(super) const TCA_HTB_PARMS: u16 = 1;
const TCA_HTB_INIT: u16 = 2;
const TCA_HTB_DIRECT_QLEN: u16 = 5;
pub(super) const TCA_HTB_RATE64: u16 = 6;
const TCA_HTB_CEIL64: u16 = 7;
/// `TCA_OPTIONS`, for queues whose options are a bare structure.
const TCA_OPTIONS: u16 = 2;
/// `TC_LINKLAYER_ETHERNET`: the kernel reckons by itself and wants no table of rates.
const LINKLAYER_ETHERNET: u8 = 1;

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// The messages of a step of traffic control; none for other steps. `index` knows the host's links.
pub(super) fn requests(
    step: &Step,
    mut index: impl FnMut(&IfName) -> Result<u32, Error>,
) -> Result<Vec<Request>, Error> {
    Ok(match step {
        Step::Shape(link, shaper) => shape(index(link)?, shaper),
        Step::Unshape(link) => unshape(index(link)?),
        Step::Redirect(from, to) => redirect(index(from)?, index(to)?),
        Step::EndRedirect(from) => end_redirect(index(from)?),
        _ => Vec::new(),
    })
}

/// The messages that limit a link; one that is there already is not replaced.
pub(super) fn shape(link: u32, shaper: &Shaper) -> Vec<Request> {
    match &shaper.exceptions {
        None => {
            let options = with_rate64(TCA_TBF_PARMS, tbf(&shaper.bucket), TCA_TBF_RATE64, &shaper.bucket);
            vec![(
                RouteNetlinkMessage::NewQueueDiscipline(queue(link, ROOT, TcHandle::ROOT, "tbf", options)),
                NEW,
            )]
        }
        Some(exceptions) => classified(link, shaper, exceptions),
    }
}

/// The message that takes the limit off. The handle keeps it from other queues.
fn unshape(link: u32) -> Vec<Request> {
    vec![(RouteNetlinkMessage::DelQueueDiscipline(message(link, ROOT, TcHandle::ROOT)), 0)]
}

/// The messages that send what comes in by `from` through `to`.
pub(super) fn redirect(from: u32, to: u32) -> Vec<Request> {
    let ingress = queue(from, INGRESS, TcHandle::INGRESS, "ingress", Vec::new());
    let mut parameters = TcMirror::default();
    let mut generic = TcActionGeneric::default();
    generic.action = TcActionType::Stolen;
    parameters.generic = generic;
    parameters.eaction = TcMirrorActionType::EgressRedir;
    parameters.ifindex = to;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.into()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(parameters))]),
    ];
    let everything = vec![
        TcFilterU32Option::Selector(selector(vec![TcU32Key::default()])),
        TcFilterU32Option::Action(vec![action]),
    ];
    let filter = filter(from, INGRESS, (1, ETH_P_ALL), everything);
    vec![
        (RouteNetlinkMessage::NewQueueDiscipline(ingress), NEW),
        (RouteNetlinkMessage::NewTrafficFilter(filter), NEW),
    ]
}

/// The message that ends it; the filter goes with the queue. Its kind keeps it from `clsact`, which others use.
fn end_redirect(from: u32) -> Vec<Request> {
    let ingress = queue(from, INGRESS, TcHandle::INGRESS, "ingress", Vec::new());
    vec![(RouteNetlinkMessage::DelQueueDiscipline(ingress), 0)]
}

/// A class for what is limited. The rest takes htb's direct queue (class `1:0`), which is never held back.
fn classified(link: u32, shaper: &Shaper, exceptions: &Exceptions) -> Vec<Request> {
    let default = if exceptions.are_limited { 0 } else { u32::from(Shaper::LIMITED) };
    let others = if exceptions.are_limited { LIMITED } else { ROOT };
    let root = queue(link, ROOT, TcHandle::ROOT, "htb", htb_root(default));
    let class = queue(link, LIMITED, ROOT, "htb", htb_class(&shaper.bucket));
    let limit = shaper.bucket.limit().to_ne_bytes().to_vec();
    let mut leaf = message(link, LEAF, LIMITED);
    leaf.attributes =
        vec![TcAttribute::Kind("bfifo".into()), TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, limit))];
    let mut requests = vec![
        (RouteNetlinkMessage::NewQueueDiscipline(root), NEW),
        (RouteNetlinkMessage::NewTrafficClass(class), NEW),
        (RouteNetlinkMessage::NewQueueDiscipline(leaf), NEW),
    ];
    for subnet in &exceptions.subnets {
        let options = vec![
            TcFilterU32Option::ClassId(others),
            TcFilterU32Option::Selector(selector(subnet_keys(subnet, exceptions.end))),
        ];
        // Filters of different protocols cannot share a priority.
        let rank = if subnet.is_ipv6() { (15, ETH_P_IPV6) } else { (16, ETH_P_IP) };
        let filter = filter(link, ROOT, rank, options);
        requests.push((RouteNetlinkMessage::NewTrafficFilter(filter), NEW));
    }
    requests
}

fn message(link: u32, handle: TcHandle, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(link.cast_signed());
    message.header.handle = handle;
    message.header.parent = parent;
    message
}

/// A queue or class of a kind with nested options.
pub(super) fn queue(
    link: u32,
    handle: TcHandle,
    parent: TcHandle,
    kind: &str,
    options: Vec<DefaultNla>,
) -> TcMessage {
    let mut message = message(link, handle, parent);
    message.attributes.push(TcAttribute::Kind(kind.into()));
    if !options.is_empty() {
        let options = options.into_iter().map(TcOption::Other).collect();
        message.attributes.push(TcAttribute::Options(options));
    }
    message
}

/// A u32 filter with its priority and the protocol that it is for.
fn filter(
    link: u32,
    parent: TcHandle,
    (priority, protocol): (u32, i32),
    options: Vec<TcFilterU32Option>,
) -> TcMessage {
    let mut message = message(link, TcHandle::UNSPEC, parent);
    message.header.info = priority << 16 | u32::from((protocol as u16).to_be());
    message.attributes = vec![
        TcAttribute::Kind(TcFilterU32::KIND.into()),
        TcAttribute::Options(options.into_iter().map(TcOption::U32).collect()),
    ];
    message
}

fn selector(keys: Vec<TcU32Key>) -> TcU32Selector {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = u8::try_from(keys.len()).unwrap_or(u8::MAX);
    selector.keys = keys;
    selector
}

/// A key for every word of the address that the subnet fixes; at least one.
fn subnet_keys(subnet: &ipnetwork::IpNetwork, end: End) -> Vec<TcU32Key> {
    let (address, mask) = (words(subnet.network()), words(subnet.mask()));
    let offset = match (subnet.is_ipv6(), end) {
        (false, End::Source) => 12,
        (false, End::Destination) => 16,
        (true, End::Source) => 8,
        (true, End::Destination) => 24,
    };
    let keys = (offset..).step_by(4).zip(address.into_iter().zip(mask)).enumerate();
    let fixed = keys.filter(|(at, (_, (_, mask)))| *mask != 0 || *at == 0);
    fixed
        .map(|(_, (offset, (value, mask)))| {
            let mut key = TcU32Key::default();
            (key.mask, key.val, key.off) = (mask, value, offset);
            key
        })
        .collect()
}

fn words(address: IpAddr) -> Vec<u32> {
    match address {
        IpAddr::V4(v4) => vec![v4.to_bits()],
        IpAddr::V6(v6) => v6
            .octets()
            .chunks(4)
            .map(|word| word.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
            .collect(),
    }
}

/// `struct tc_tbf_qopt`.
fn tbf(bucket: &TokenBucket) -> Vec<u8> {
    let mut bytes = rate_spec(bucket);
    bytes.extend([0; 12]);
    for number in [bucket.limit(), bucket.buffer(), 0] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes
}

/// `struct tc_htb_glob`: version 3, and what has no class of its own goes to `default`.
fn htb_root(default: u32) -> Vec<DefaultNla> {
    const DIRECT_PACKETS: u32 = 1000;
    let glob: Vec<u8> = [3, 10, default, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    vec![
        DefaultNla::new(TCA_HTB_INIT, glob),
        DefaultNla::new(TCA_HTB_DIRECT_QLEN, DIRECT_PACKETS.to_ne_bytes().to_vec()),
    ]
}

/// `struct tc_htb_opt`: rate and ceiling are the same, and so are their bursts.
fn htb_class(bucket: &TokenBucket) -> Vec<DefaultNla> {
    /// Bytes in a turn, of which a single class has all; given lest the kernel reckon it from the rate and complain.
    const QUANTUM: u32 = 60_000;
    let mut bytes = rate_spec(bucket);
    bytes.extend(rate_spec(bucket));
    for number in [bucket.buffer(), bucket.buffer(), QUANTUM, 0, 0] {
        bytes.extend(number.to_ne_bytes());
    }
    let mut options = with_rate64(TCA_HTB_PARMS, bytes, TCA_HTB_RATE64, bucket);
    if options.len() > 1 {
        options.push(rate64(TCA_HTB_CEIL64, bucket));
    }
    options
}

/// `struct tc_ratespec`. A rate beyond 32 bits is told by an attribute of its own.
fn rate_spec(bucket: &TokenBucket) -> Vec<u8> {
    let mut bytes = vec![0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(u32::try_from(bucket.rate.get()).unwrap_or(u32::MAX).to_ne_bytes());
    bytes
}

fn with_rate64(kind: u16, parameters: Vec<u8>, wide: u16, bucket: &TokenBucket) -> Vec<DefaultNla> {
    let is_wide = bucket.rate.get() >= u64::from(u32::MAX);
    std::iter::once(DefaultNla::new(kind, parameters)).chain(is_wide.then(|| rate64(wide, bucket))).collect()
}

fn rate64(kind: u16, bucket: &TokenBucket) -> DefaultNla {
    DefaultNla::new(kind, bucket.rate.get().to_ne_bytes().to_vec())
}
