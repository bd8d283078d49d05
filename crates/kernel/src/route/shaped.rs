//! Questions about limits and redirections: what a link's queue is, where its incoming packets go, and whether this
//! kernel can do either.

use libc::{EADDRNOTAVAIL, EEXIST, EINVAL, ENODEV, ENOENT};
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL, Nla, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::tc::{
    TcActionAttribute, TcActionMirrorOption, TcActionOption, TcAttribute, TcFilterU32Option, TcHandle,
    TcMessage, TcOption,
};
use zeugma_model::IfName;
use zeugma_plan::LimitState;

use super::Route;
use super::shape::{
    INGRESS, LIMITED, ROOT, TCA_HTB_PARMS, TCA_HTB_RATE64, TCA_TBF_PARMS, TCA_TBF_RATE64, queue,
};
use crate::Error;

impl Route {
    /// The limit at the root of a link; none when there is no link, no queue, or one of another kind.
    pub(crate) fn limit(&mut self, name: &IfName) -> Result<Option<LimitState>, Error> {
        let Some(index) = self.index(name)? else { return Ok(None) };
        let question = queue_question(index, TcHandle::ROOT);
        let action = "look up the queue of a link";
        // The echo makes kernels before 6.8 answer the one who asked.
        let answers = self.ask(action, RouteNetlinkMessage::GetQueueDiscipline(question), NLM_F_ECHO)?;
        let root = match answers {
            Ok(answers) => answers.into_iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewQueueDiscipline(queue) => Some(queue),
                _ => None,
            }),
            // The link has the queue that it was born with.
            Err(refusal) if [ENOENT, EINVAL, ENODEV].contains(&refusal.errno) => None,
            Err(refusal) => return Err(Error::Unanswered { action, refusal }),
        };
        match root {
            Some(root) if root.header.handle == ROOT && kind(&root) == "tbf" => Ok(tbf_state(&root)),
            Some(root) if root.header.handle == ROOT && kind(&root) == "htb" => self.class_limit(index),
            _ => Ok(None),
        }
    }

    fn class_limit(&mut self, index: u32) -> Result<Option<LimitState>, Error> {
        let action = "list the classes of a link";
        let question = RouteNetlinkMessage::GetTrafficClass(queue_question(index, TcHandle::UNSPEC));
        let answers = self.ask(action, question, NLM_F_DUMP)?;
        let answers = answers.map_err(|refusal| Error::Unanswered { action, refusal })?;
        let limited = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewTrafficClass(class) if class.header.handle == LIMITED => Some(class),
            _ => None,
        });
        let exceptions = self.filters(index, ROOT)?.iter().filter(|filter| has_selector(filter)).count();
        Ok(limited.and_then(|class| htb_state(&class)).map(|state| LimitState { exceptions, ..state }))
    }

    /// The index of the link that incoming packets are redirected to; none when they are not.
    pub(crate) fn redirected_to(&mut self, name: &IfName) -> Result<Option<u32>, Error> {
        let Some(index) = self.index(name)? else { return Ok(None) };
        Ok(self.filters(index, INGRESS)?.iter().find_map(target))
    }

    fn filters(&mut self, index: u32, parent: TcHandle) -> Result<Vec<TcMessage>, Error> {
        let action = "list the filters of a link";
        let question = RouteNetlinkMessage::GetTrafficFilter(queue_question(index, parent));
        match self.ask(action, question, NLM_F_DUMP)? {
            Ok(answers) => Ok(answers
                .into_iter()
                .filter_map(|answer| match answer {
                    RouteNetlinkMessage::NewTrafficFilter(filter) => Some(filter),
                    _ => None,
                })
                .collect()),
            Err(refusal) if [ENOENT, EINVAL, ENODEV].contains(&refusal.errno) => Ok(Vec::new()),
            Err(refusal) => Err(Error::Unanswered { action, refusal }),
        }
    }

    /// Whether the kernel has token buckets and ifbs: asked by requests that it refuses one way when it has them,
    /// and another way when it does not. Neither makes anything.
    pub(crate) fn can_shape(&mut self) -> Result<(), Error> {
        // A token bucket without a rate: EINVAL from the queue itself, ENOENT where there is none.
        let bucket = queue(LOOPBACK, TcHandle::UNSPEC, TcHandle::ROOT, "tbf", Vec::new());
        let bucket = RouteNetlinkMessage::NewQueueDiscipline(bucket);
        self.expect_refusal(
            "use token buckets (sch_tbf)",
            bucket,
            NLM_F_CREATE | NLM_F_EXCL,
            &[EINVAL, EEXIST],
        )?;
        // An ifb whose address is all zero: refused as that, ENODEV where there is no such kind.
        let mut ifb = LinkMessage::default();
        ifb.attributes.push(LinkAttribute::IfName("zeugma-probe".into()));
        ifb.attributes.push(LinkAttribute::Address(vec![0; 6]));
        ifb.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]));
        self.expect_refusal("use ifb links (ifb)", RouteNetlinkMessage::NewLink(ifb), 0, &[EADDRNOTAVAIL])
    }

    fn expect_refusal(
        &mut self,
        action: &'static str,
        request: RouteNetlinkMessage,
        flags: u16,
        expected: &[i32],
    ) -> Result<(), Error> {
        match self.transact(vec![(0, request, flags)])?.failed.into_iter().next() {
            Some((_, refusal)) if !expected.contains(&refusal.errno) => {
                Err(Error::Unanswered { action, refusal })
            }
            _ => Ok(()),
        }
    }
}

/// The index of `lo`, the same in every namespace.
const LOOPBACK: u32 = 1;

fn queue_question(index: u32, parent: TcHandle) -> TcMessage {
    let mut question = TcMessage::with_index(index.cast_signed());
    question.header.parent = parent;
    question
}

fn kind(message: &TcMessage) -> &str {
    let kind = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    });
    kind.unwrap_or_default()
}

/// The options of a queue or class that the library hands on unread.
fn options(message: &TcMessage) -> Vec<(u16, Vec<u8>)> {
    let all = message.attributes.iter().flat_map(|attribute| match attribute {
        TcAttribute::Options(options) => options.as_slice(),
        _ => &[],
    });
    let raw = all.filter_map(|option| match option {
        TcOption::Other(nla) => Some(value(nla)),
        _ => None,
    });
    raw.flat_map(|bytes| {
        let parts = NlasIterator::new(bytes.as_slice()).map_while(Result::ok);
        parts.map(|part| (part.kind(), part.value().to_vec())).collect::<Vec<_>>()
    })
    .collect()
}

fn value(nla: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; nla.value_len()];
    nla.emit_value(&mut bytes);
    bytes
}

/// The number at a place of a structure, and the wide one where the rate has 32 bits only.
struct Numbers {
    parameters: Vec<u8>,
    wide_rate: Option<u64>,
}

impl Numbers {
    fn of(message: &TcMessage, kind: u16, wide: u16) -> Option<Self> {
        let options = options(message);
        let find = |wanted| options.iter().find(|(kind, _)| *kind == wanted).map(|(_, bytes)| bytes.clone());
        let wide_rate = find(wide).and_then(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?)));
        Some(Self { parameters: find(kind)?, wide_rate })
    }

    fn at(&self, place: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(self.parameters.get(place..place + 4)?.try_into().ok()?))
    }

    /// In both structures the rate's specification comes first, the rate at its end.
    fn rate(&self) -> Option<u64> {
        self.wide_rate.or(self.at(8).map(u64::from))
    }
}

/// `struct tc_tbf_qopt`: two rates of 12 bytes, limit, buffer.
fn tbf_state(message: &TcMessage) -> Option<LimitState> {
    let numbers = Numbers::of(message, TCA_TBF_PARMS, TCA_TBF_RATE64)?;
    Some(LimitState {
        rate: numbers.rate()?,
        buffer: numbers.at(28)?,
        limit: Some(numbers.at(24)?),
        exceptions: 0,
    })
}

/// `struct tc_htb_opt`: two rates of 12 bytes, buffer.
fn htb_state(message: &TcMessage) -> Option<LimitState> {
    let numbers = Numbers::of(message, TCA_HTB_PARMS, TCA_HTB_RATE64)?;
    Some(LimitState { rate: numbers.rate()?, buffer: numbers.at(24)?, limit: None, exceptions: 0 })
}

fn u32_options(message: &TcMessage) -> impl Iterator<Item = &TcFilterU32Option> {
    let all = message.attributes.iter().flat_map(|attribute| match attribute {
        TcAttribute::Options(options) => options.as_slice(),
        _ => &[],
    });
    all.filter_map(|option| match option {
        TcOption::U32(option) => Some(option),
        _ => None,
    })
}

/// Between the filters the kernel lists the tables that they are in.
fn has_selector(message: &TcMessage) -> bool {
    u32_options(message).any(|option| matches!(option, TcFilterU32Option::Selector(_)))
}

/// Where a filter redirects to.
fn target(message: &TcMessage) -> Option<u32> {
    let actions = u32_options(message).flat_map(|option| match option {
        TcFilterU32Option::Action(actions) => actions.as_slice(),
        _ => &[],
    });
    let options = actions.flat_map(|action| &action.attributes).flat_map(|attribute| match attribute {
        TcActionAttribute::Options(options) => options.as_slice(),
        _ => &[],
    });
    options.into_iter().find_map(|option| match option {
        TcActionOption::Mirror(TcActionMirrorOption::Parms(parameters)) => Some(parameters.ifindex),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use netlink_packet_core::{Emitable, Parseable};
    use zeugma_plan::{End, Exceptions, Shaper, TokenBucket};

    use super::super::shape::{redirect, shape};
    use super::*;

    /// A message as the kernel would send it back.
    fn returned(request: &RouteNetlinkMessage) -> TcMessage {
        let (RouteNetlinkMessage::NewQueueDiscipline(message)
        | RouteNetlinkMessage::NewTrafficClass(message)
        | RouteNetlinkMessage::NewTrafficFilter(message)) = request
        else {
            panic!("no new queue, class or filter: {request:?}");
        };
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        TcMessage::parse(bytes.as_slice()).unwrap()
    }

    fn bucket(rate: u64) -> TokenBucket {
        TokenBucket { rate: NonZeroU64::new(rate).unwrap(), burst: 100_000 }
    }

    #[test]
    fn limits_read_back_at_narrow_and_wide_rates() {
        for rate in [1_000_000, u64::from(u32::MAX), 50_000_000_000] {
            let bucket = bucket(rate);
            let state =
                LimitState { rate, buffer: bucket.buffer(), limit: Some(bucket.limit()), exceptions: 0 };
            let whole = shape(7, &Shaper { bucket, exceptions: None });
            assert_eq!(tbf_state(&returned(&whole[0].0)), Some(state));
            let subnets = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
            let exceptions = Exceptions { subnets, are_limited: true, end: End::Source };
            let parted = shape(7, &Shaper { bucket, exceptions: Some(exceptions) });
            assert_eq!(htb_state(&returned(&parted[1].0)), Some(LimitState { limit: None, ..state }));
            assert_eq!(parted[3..].iter().filter(|(filter, _)| has_selector(&returned(filter))).count(), 2);
        }
    }

    #[test]
    fn a_redirection_reads_back() {
        assert_eq!(target(&returned(&redirect(7, 9)[1].0)), Some(9));
    }
}
