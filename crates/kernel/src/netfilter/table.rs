//! Our tables as the kernel has them, compared with what this version makes; and how one becomes whole again.
//!
//! The kernel tells more of a set, chain or rule than it was told, and numbers registers in its own way. So what
//! counts is whether all that we would say is there.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_core::{DefaultNla, Emitable, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainMessage, GenMessage, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetMessage,
    TableMessage,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use zeugma_plan::Mending;
use zeugma_plan::nft::{ADMIN, Chain, Element, Ruleset, SetId, TABLE, TableFamily, skeleton_of, stamped};

use super::attributes::{attribute, attributes};
use super::uapi::{NESTED, NEW_RULE, TABLE_USERDATA, UDATA_COMMENT};
use super::{Change, HEADERS, Netfilter, elements, ruleset};
use crate::channel::Answer;
use crate::{Error, Refusal};

/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`, `NFTA_SET_TABLE`: the first everywhere.
pub(super) const OF_TABLE: u16 = 1;
/// `NFTA_SET_NAME`, and what tells sets apart: flags, types and lengths of keys and data.
const SET_NAME: u16 = 2;
const SET_NATURE: [u16; 5] = [3, 4, 5, 6, 7];
/// `NFTA_CHAIN_NAME`, `NFTA_CHAIN_HOOK`, and what tells chains apart: hook, policy, type.
const CHAIN_NAME: u16 = 3;
const CHAIN_NATURE: [u16; 3] = [4, 5, 7];
/// `enum nft_rule_attributes`.
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
/// `NFTA_LIST_ELEM`, and `enum nft_expr_attributes` in it.
const EXPRESSION: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
/// `NFTA_GEN_ID`.
const GENERATION: u16 = 1;

/// One of our tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableState {
    /// The skeleton's version by the table's comment; 0 without one.
    pub version: u32,
    /// What it has not, or has otherwise than this version makes it, such as `set isolated`, `rules of chain forward`.
    pub lacks: Vec<String>,
    /// Whether something stands in the place of what it lacks: a set or chain of the same name, made otherwise.
    pub is_obstructed: bool,
}

/// What is in a table, by name.
#[derive(Default)]
struct Contents {
    sets: BTreeMap<String, Vec<u8>>,
    chains: BTreeMap<String, Vec<u8>>,
    /// The messages of a chain's rules, in order.
    rules: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Netfilter {
    /// Our table of a family; none when there is none.
    pub(crate) fn table(&mut self, family: TableFamily) -> Result<Option<TableState>, Error> {
        let mut version = None;
        let question = NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() });
        self.list(family.into(), question, |bytes| {
            if let Some(body) = of_our_table(bytes) {
                version = Some(version_in(body));
            }
        })?;
        let Some(version) = version else { return Ok(None) };
        let contents = self.contents(family)?;
        let wanted = skeleton_of(family);
        let lacks = lacks(&wanted, &contents);
        Ok(Some(TableState { version, is_obstructed: is_obstructed(&wanted, &contents), lacks }))
    }

    fn contents(&mut self, family: TableFamily) -> Result<Contents, Error> {
        let mut contents = Contents::default();
        let sets = SetMessage { attributes: vec![SetAttribute::Table(TABLE.into())] };
        self.list(family.into(), NfTablesMessage::GetSet(sets), |bytes| {
            contents.sets.extend(named(bytes, SET_NAME));
        })?;
        let chains = ChainMessage { attributes: Vec::new() };
        self.list(family.into(), NfTablesMessage::GetChain(chains), |bytes| {
            contents.chains.extend(named(bytes, CHAIN_NAME));
        })?;
        let rules = RuleMessage { attributes: vec![RuleAttribute::Table(TABLE.into())] };
        self.list(family.into(), NfTablesMessage::GetRule(rules), |bytes| {
            if let Some((chain, body)) = named(bytes, RULE_CHAIN) {
                contents.rules.entry(chain).or_default().push(body);
            }
        })?;
        Ok(contents)
    }

    /// Brings a table to what this version has, in one transaction.
    pub(crate) fn mend(
        &mut self,
        family: TableFamily,
        mending: Mending,
        wanted: &[Element],
    ) -> Result<(), Error> {
        let added = elements::messages(wanted, NLM_F_CREATE, NfTablesMessage::NewSetElement);
        let mut changes = Vec::new();
        if mending == Mending::Replace {
            changes.push((family, ruleset::table_to_delete(TABLE), 0));
        }
        changes.extend(ruleset::completing(&skeleton_of(family)));
        if mending == Mending::Replace {
            changes.extend(self.administrator_s(family)?);
        }
        changes.extend(added);
        match self.commit(changes)? {
            Ok(()) => Ok(()),
            Err(refusal) => Err(Error::Refused { step: step(family, mending), refusal }),
        }
    }

    /// The rules that the administrator put into the chain for them, to be put into the next table.
    fn administrator_s(&mut self, family: TableFamily) -> Result<Vec<Change>, Error> {
        let rules = self.contents(family)?.rules.remove(ADMIN).unwrap_or_default();
        Ok(rules.iter().map(|rule| (family, again(rule), NLM_F_CREATE | NLM_F_APPEND)).collect())
    }

    /// The number of the ruleset's generation: every transaction of this namespace, whosever, makes another.
    pub(crate) fn generation(&mut self) -> Result<Option<u32>, Error> {
        let action = "ask for the generation of the ruleset";
        let question = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0);
        let sequence = self.channel.push(NetfilterMessage::new(header, question).into(), 0);
        let io = |source| Error::System { action, source };
        self.channel.flush().map_err(io)?;
        let (mut generation, mut refused): (_, Option<Refusal>) = (None, None);
        self.channel
            .receive(|incoming| {
                match incoming.answer {
                    Answer::Message(bytes) => generation = generation_in(bytes),
                    Answer::Ack(result) => refused = result.err(),
                    Answer::Done => {}
                }
                incoming.sequence == sequence
            })
            .map_err(io)?;
        match refused {
            Some(refusal) => Err(Error::Unanswered { action, refusal }),
            None => Ok(generation),
        }
    }
}

fn step(family: TableFamily, mending: Mending) -> String {
    zeugma_plan::Step::MendTable(family, mending, Vec::new()).to_string()
}

pub(super) fn generation_in(message: &[u8]) -> Option<u32> {
    let id = attribute(message.get(HEADERS..)?, GENERATION)?;
    Some(u32::from_be_bytes(id.try_into().ok()?))
}

/// The attributes of a message about our table; none when it is about another.
pub(super) fn of_our_table(message: &[u8]) -> Option<&[u8]> {
    let body = message.get(HEADERS..)?;
    (text(body, OF_TABLE)? == TABLE).then_some(body)
}

fn named(message: &[u8], kind: u16) -> Option<(String, Vec<u8>)> {
    let body = of_our_table(message)?;
    Some((text(body, kind)?.to_owned(), body.to_vec()))
}

pub(super) fn text(body: &[u8], kind: u16) -> Option<&str> {
    Some(std::str::from_utf8(attribute(body, kind)?).ok()?.trim_end_matches('\0'))
}

fn version_in(table: &[u8]) -> u32 {
    let comment = attribute(table, TABLE_USERDATA).and_then(|userdata| match userdata {
        [UDATA_COMMENT, length, rest @ ..] => std::str::from_utf8(rest.get(..usize::from(*length))?).ok(),
        _ => None,
    });
    comment.map_or(0, |comment| stamped(comment.trim_end_matches('\0')))
}

fn lacks(wanted: &Ruleset, contents: &Contents) -> Vec<String> {
    let mut lacks = Vec::new();
    for set in &wanted.sets {
        let is_there = contents.sets.get(&set.name()).is_some_and(|body| is_set(*set, body));
        lacks.extend((!is_there).then(|| format!("set {}", set.name())));
    }
    for chain in &wanted.chains {
        if !contents.chains.get(chain.name).is_some_and(|body| is_chain(chain, body)) {
            lacks.push(format!("chain {}", chain.name));
        } else if chain.name != ADMIN && !has_rules(chain, contents) {
            lacks.push(format!("rules of chain {}", chain.name));
        }
    }
    lacks
}

fn is_obstructed(wanted: &Ruleset, contents: &Contents) -> bool {
    let by_set = |set: &SetId| contents.sets.get(&set.name()).is_some_and(|body| !is_set(*set, body));
    let by_chain = |chain: &Chain| contents.chains.get(chain.name).is_some_and(|body| !is_chain(chain, body));
    wanted.sets.iter().any(by_set) || wanted.chains.iter().any(by_chain)
}

fn is_set(set: SetId, body: &[u8]) -> bool {
    says(&attributes_of(&ruleset::new_set(TABLE, set, 1)), body, &SET_NATURE)
}

fn is_chain(chain: &Chain, body: &[u8]) -> bool {
    let is_base = attribute(body, CHAIN_NATURE[0]).is_some();
    is_base == chain.hook.is_some()
        && says(&attributes_of(&ruleset::new_chain(TABLE, chain)), body, &CHAIN_NATURE)
}

/// Whether all of these attributes that we would send are there.
fn says(ours: &[u8], theirs: &[u8], kinds: &[u16]) -> bool {
    kinds.iter().all(|kind| match (attribute(ours, *kind), attribute(theirs, *kind)) {
        (Some(ours), Some(theirs)) => is_within(ours, theirs, &[]),
        // No flags are zero flags.
        (Some(ours), None) => ours.iter().all(|byte| *byte == 0),
        (None, _) => true,
    })
}

fn has_rules(chain: &Chain, contents: &Contents) -> bool {
    let there = contents.rules.get(chain.name).map(Vec::as_slice).unwrap_or_default();
    there.len() == chain.rules.len()
        && chain.rules.iter().zip(there).all(|(rule, body)| {
            let ours = attributes_of(&ruleset::new_rule(TABLE, chain, rule));
            match (attribute(&ours, RULE_EXPRESSIONS), attribute(body, RULE_EXPRESSIONS)) {
                (Some(ours), Some(theirs)) => are_same(ours, theirs),
                _ => false,
            }
        })
}

/// The attributes of a message as they would be sent.
fn attributes_of(message: &NfTablesMessage) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

fn are_same(ours: &[u8], theirs: &[u8]) -> bool {
    let (ours, theirs) = (expressions(ours), expressions(theirs));
    ours.len() == theirs.len()
        && ours.iter().zip(&theirs).all(|((name, data), (their_name, their_data))| {
            name == their_name && is_within(data, their_data, registers(name))
        })
}

fn expressions(list: &[u8]) -> Vec<(&str, &[u8])> {
    let of_list = attributes(list).filter_map(Result::ok).filter(|(kind, _)| *kind == EXPRESSION);
    of_list
        .filter_map(|(_, one)| {
            Some((text(one, EXPRESSION_NAME)?, attribute(one, EXPRESSION_DATA).unwrap_or_default()))
        })
        .collect()
}

/// Which attributes of an expression are registers.
fn registers(expression: &str) -> &'static [u16] {
    match expression {
        "lookup" => &[2, 3],
        "bitwise" | "byteorder" => &[1, 2],
        "exthdr" => &[1, 7],
        "nat" => &[3, 5],
        "meta" | "payload" | "cmp" | "immediate" | "ct" | "fib" | "rt" => &[1],
        _ => &[],
    }
}

/// Whether all of our attributes are among theirs.
fn is_within(ours: &[u8], theirs: &[u8], registers: &[u16]) -> bool {
    if ours == theirs || ours.is_empty() {
        return true;
    }
    let mut count = 0;
    let all = attributes(ours).all(|one| {
        count += 1;
        let Ok((kind, value)) = one else { return false };
        attribute(theirs, kind).is_some_and(|their_value| {
            let is_register = registers.contains(&kind);
            if is_register {
                register(value) == register(their_value)
            } else {
                is_within(value, their_value, &[])
            }
        })
    });
    all && count > 0
}

/// A register by the number of its first 32 bits: `NFT_REG_1` to `NFT_REG_4` are four of them each.
fn register(value: &[u8]) -> Option<u32> {
    /// `NFT_REG32_00`.
    const FIRST: u32 = 8;
    match u32::from_be_bytes(value.try_into().ok()?) {
        wide @ 1..=4 => Some(FIRST + (wide - 1) * 4),
        other => Some(other),
    }
}

/// The message that makes a listed rule once more.
fn again(rule: &[u8]) -> NfTablesMessage {
    let kept: BTreeSet<u16> = [OF_TABLE, RULE_CHAIN, RULE_EXPRESSIONS, RULE_USERDATA].into();
    let of_rule = attributes(rule).filter_map(Result::ok).filter(|(kind, _)| kept.contains(kind));
    let attributes = of_rule
        .map(|(kind, value)| {
            let nested = if kind == RULE_EXPRESSIONS { NESTED } else { 0 };
            DefaultNla::new(kind | nested, value.to_vec())
        })
        .collect();
    NfTablesMessage::Other { message_type: NEW_RULE, attributes }
}

/// Everything that is read out of a listing.
pub(super) fn fuzz(message: &[u8]) {
    let _ = generation_in(message);
    let Some(body) = message.get(HEADERS..) else { return };
    let _ = (version_in(body), again(body));
    let mut contents = Contents::default();
    for family in [TableFamily::Inet, TableFamily::Bridge] {
        let wanted = skeleton_of(family);
        for chain in &wanted.chains {
            contents.chains.insert(chain.name.into(), body.to_vec());
            contents.rules.insert(chain.name.into(), vec![body.to_vec(); chain.rules.len()]);
        }
        contents.sets.extend(wanted.sets.iter().map(|set| (set.name(), body.to_vec())));
        let _ = lacks(&wanted, &contents);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(family: TableFamily) -> (Ruleset, Contents) {
        let wanted = skeleton_of(family);
        let mut contents = Contents::default();
        for set in &wanted.sets {
            contents.sets.insert(set.name(), attributes_of(&ruleset::new_set(TABLE, *set, 1)));
        }
        for chain in &wanted.chains {
            contents.chains.insert(chain.name.into(), attributes_of(&ruleset::new_chain(TABLE, chain)));
            let rules = chain.rules.iter().map(|rule| attributes_of(&ruleset::new_rule(TABLE, chain, rule)));
            contents.rules.insert(chain.name.into(), rules.collect());
        }
        (wanted, contents)
    }

    #[test]
    fn what_is_missing_or_otherwise_is_named() {
        let (wanted, mut contents) = whole(TableFamily::Inet);
        assert!(lacks(&wanted, &contents).is_empty());
        contents.sets.remove("isolated");
        contents.chains.remove("localhost");
        contents.rules.get_mut("published").unwrap().swap(0, 1);
        contents.rules.get_mut("forward").unwrap().pop();
        let expected =
            ["set isolated", "rules of chain published", "chain localhost", "rules of chain forward"];
        assert_eq!(lacks(&wanted, &contents), expected);
    }

    #[test]
    fn the_administrator_s_rules_are_not_compared_and_can_be_made_again() {
        let (wanted, mut contents) = whole(TableFamily::Inet);
        let rule = contents.rules["forward"][1].clone();
        contents.rules.get_mut(ADMIN).unwrap().push(rule.clone());
        assert!(lacks(&wanted, &contents).is_empty());
        let made = attributes_of(&again(&rule));
        assert_eq!(attribute(&made, RULE_EXPRESSIONS), attribute(&rule, RULE_EXPRESSIONS));
        assert_eq!(text(&made, OF_TABLE), Some(TABLE));
    }

    #[test]
    fn registers_have_two_numbers() {
        assert_eq!(register(&1_u32.to_be_bytes()), register(&8_u32.to_be_bytes()));
        assert_eq!(register(&2_u32.to_be_bytes()), register(&12_u32.to_be_bytes()));
        assert_ne!(register(&0_u32.to_be_bytes()), register(&8_u32.to_be_bytes()));
    }
}
