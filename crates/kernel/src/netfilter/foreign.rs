//! What other programs have in the packet filter, as far as it can be told cheaply: names of chains, whether a
//! chain has rules, names of the tables that iptables-legacy made. Nothing is ever changed here.

use std::fs;

use netlink_packet_core::{NLM_F_DUMP, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, NfTablesMessage, RuleAttribute, RuleMessage,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use zeugma_plan::Family;
use zeugma_plan::nft::TableFamily;

use super::attributes::attribute;
use super::table::text;
use super::uapi::DROP;
use super::{HEADERS, Netfilter};
use crate::Error;

/// A family of nftables' tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NftFamily {
    /// `ip`
    Ip,
    /// `ip6`
    Ip6,
    /// `inet`
    Inet,
    /// `bridge`
    Bridge,
}

impl NftFamily {
    /// As nft writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        }
    }

    fn protocol(self) -> NetfilterProtoFamily {
        match self {
            Self::Ip => NetfilterProtoFamily::IPv4,
            Self::Ip6 => NetfilterProtoFamily::IPv6,
            Self::Inet => NetfilterProtoFamily::Inet,
            Self::Bridge => NetfilterProtoFamily::Bridge,
        }
    }
}

impl From<TableFamily> for NftFamily {
    fn from(family: TableFamily) -> Self {
        match family {
            TableFamily::Inet => Self::Inet,
            TableFamily::Bridge => Self::Bridge,
        }
    }
}

impl From<Family> for NftFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ip,
            Family::V6 => Self::Ip6,
        }
    }
}

/// A chain by its table's name and its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignChain {
    /// The table.
    pub table: String,
    /// The chain.
    pub name: String,
}

/// A chain that hangs at a hook, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    /// The family of its table.
    pub family: NftFamily,
    /// The table.
    pub table: String,
    /// The chain.
    pub name: String,
    /// The hook's number (`enum nf_inet_hooks`).
    pub hook: u32,
    /// The lower, the sooner.
    pub priority: i32,
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// Whether what no rule decides about is dropped.
    pub drops: bool,
}

impl Netfilter {
    /// All chains of a family that hang at a hook, in the order in which packets meet them.
    pub(crate) fn base_chains(&mut self, family: NftFamily) -> Result<Vec<BaseChain>, Error> {
        let question = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
        let mut chains = Vec::new();
        self.list(family, question, |bytes| chains.extend(base_chain(family, bytes)))?;
        chains.sort_by_key(|chain| (chain.hook, chain.priority));
        Ok(chains)
    }

    /// All chains of a family.
    pub(crate) fn chains(&mut self, family: NftFamily) -> Result<Vec<ForeignChain>, Error> {
        let question = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
        let mut chains = Vec::new();
        self.list(family, question, |bytes| chains.extend(chain(bytes)))?;
        Ok(chains)
    }

    /// The handles of a chain's rules.
    pub(crate) fn rule_handles(
        &mut self,
        family: NftFamily,
        table: &str,
        chain: &str,
    ) -> Result<Vec<u64>, Error> {
        /// `NFTA_RULE_HANDLE`.
        const HANDLE: u16 = 3;
        let attributes = vec![RuleAttribute::Table(table.into()), RuleAttribute::Chain(chain.into())];
        let mut handles = Vec::new();
        self.list(family, NfTablesMessage::GetRule(RuleMessage { attributes }), |bytes| {
            let handle = bytes.get(HEADERS..).and_then(|body| attribute(body, HANDLE));
            handles.extend(handle.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes));
        })?;
        Ok(handles)
    }

    /// Whether there is such a chain and it has rules.
    pub(crate) fn has_rules(&mut self, family: NftFamily, table: &str, chain: &str) -> Result<bool, Error> {
        let attributes = vec![RuleAttribute::Table(table.into()), RuleAttribute::Chain(chain.into())];
        let mut has = false;
        self.list(family, NfTablesMessage::GetRule(RuleMessage { attributes }), |_| has = true)?;
        Ok(has)
    }

    /// Dumps; what is not there, or an nf_tables that the kernel lacks, has nothing to show.
    pub(super) fn list(
        &mut self,
        family: NftFamily,
        question: NfTablesMessage,
        mut show: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let action = "list what is in nftables";
        let message = NetfilterMessage::new(NetfilterHeader::new(family.protocol(), 0, 0), question);
        let sequence = self.channel.push(message.into(), NLM_F_DUMP);
        let io = |source| Error::System { action, source };
        let refused = self.channel.answers(sequence, |bytes| {
            show(bytes);
            false
        });
        match refused
            .map_err(io)?
            .filter(|refusal| ![libc::ENOENT, libc::EOPNOTSUPP].contains(&refusal.errno))
        {
            Some(refusal) => Err(Error::Unanswered { action, refusal }),
            None => Ok(()),
        }
    }
}

fn chain(bytes: &[u8]) -> Option<ForeignChain> {
    let NetlinkPayload::InnerMessage(message) =
        NetlinkMessage::<NetfilterMessage>::deserialize(bytes).ok()?.payload
    else {
        return None;
    };
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(chain)) = message.inner else {
        return None;
    };
    let (mut table, mut name) = (None, None);
    for attribute in chain.attributes {
        match attribute {
            ChainAttribute::Table(text) => table = Some(text),
            ChainAttribute::Name(text) => name = Some(text),
            _ => {}
        }
    }
    Some(ForeignChain { table: table?, name: name? })
}

/// `enum nft_chain_attributes` and `enum nft_hook_attributes`.
const OF_TABLE: u16 = 1;
const NAME: u16 = 3;
const HOOK: u16 = 4;
const POLICY: u16 = 5;
const TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;

/// None for a chain that others lead to.
fn base_chain(family: NftFamily, message: &[u8]) -> Option<BaseChain> {
    let body = message.get(HEADERS..)?;
    let number = |bytes: &[u8]| Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?));
    let hook = attribute(body, HOOK)?;
    let policy = attribute(body, POLICY).and_then(number);
    Some(BaseChain {
        family,
        table: text(body, OF_TABLE)?.to_owned(),
        name: text(body, NAME)?.to_owned(),
        hook: attribute(hook, HOOK_NUMBER).and_then(number)?,
        priority: attribute(hook, HOOK_PRIORITY).and_then(number)?.cast_signed(),
        kind: text(body, TYPE)?.to_owned(),
        drops: policy == Some(DROP),
    })
}

/// Whatever is answered to a question about chains.
pub(super) fn fuzz(message: &[u8]) {
    let _ = base_chain(NftFamily::Inet, message);
}

/// The tables that iptables-legacy (or ip6tables-legacy) made in this namespace; none where the kernel has no
/// such thing.
pub(crate) fn legacy_tables(family: Family) -> Vec<String> {
    let path = match family {
        Family::V4 => "/proc/net/ip_tables_names",
        Family::V6 => "/proc/net/ip6_tables_names",
    };
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
