//! What other programs' packet filters do with a packet of ours. An `accept` of ours does not help where another chain at
//! the same hook drops: so their chains are read as nft lists them, and followed as the kernel would.
//!
//! What a rule asks that cannot be told beforehand (a mark, a counter's limit, an extension of iptables) leaves a doubt,
//! and what is in doubt counts as let through.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nftables::expr::{Expression, MetaKey, NamedExpression, Payload, SetItem};
use nftables::helper::get_current_ruleset_raw;
use nftables::schema::{NfListObject, Rule};
use nftables::stmt::{Match, Operator, Statement};
use serde_json::Value;
use zeugma_kernel::{BaseChain, Kernel, NftFamily, TRACE_TABLE};
use zeugma_model::Protocol;
use zeugma_plan::nft::{ADMIN, TABLE};

/// `NF_INET_LOCAL_IN` and `NF_INET_FORWARD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// To the host itself.
    Input = 1,
    /// Through it.
    Forward = 2,
}

/// A packet of a new flow, after all translation of its destination.
#[derive(Debug, Clone)]
pub(crate) struct Passing {
    pub(crate) hook: Hook,
    /// The link that it comes in by.
    pub(crate) iif: String,
    /// The link that it leaves by; empty where it stays.
    pub(crate) oif: String,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) port: Option<(Protocol, u16)>,
    /// Whether its destination was translated.
    pub(crate) is_translated: bool,
}

/// What the administrator's chain in our table does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Administrator {
    /// No rule is for it.
    Passes,
    /// It meets no other rule of ours at this hook.
    Accepts,
    Drops,
    /// What a rule asks cannot be told beforehand.
    Unclear,
}

/// Others' chains, and the one of ours that is the administrator's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters {
    bases: Vec<BaseChain>,
    tables: BTreeMap<(&'static str, String), Table>,
    /// Whether the administrator has rules.
    has_admin_rules: bool,
}

/// By chain; a rule that cannot be read is none.
type Table = BTreeMap<String, Vec<Option<Vec<Statement<'static>>>>>;

/// The family of our table, as nft names it.
const INET: &str = "inet";
/// Deeper than any chain of rules that the kernel takes (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: u8 = 16;

/// What is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Accept,
    Drop,
    /// Back to where it was jumped from.
    Return,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    Yes,
    No,
    Unknown,
}

impl Filters {
    /// Reads the chains that hang where packets of ours pass. Where there is no `nft`, policies are all that is known.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub(crate) fn observe(kernel: &mut Kernel) -> Result<Self, zeugma_kernel::Error> {
        let mut filters = Self::default();
        for family in [NftFamily::Inet, NftFamily::Ip, NftFamily::Ip6] {
            let is_meant = |chain: &BaseChain| {
                [1, 2].contains(&chain.hook) && chain.kind == "filter" && !is_ours(&chain.table)
            };
            filters.bases.extend(kernel.base_chains(family)?.into_iter().filter(is_meant));
        }
        filters.has_admin_rules = kernel.has_rules(NftFamily::Inet, TABLE, ADMIN)?;
        let admin = filters.has_admin_rules.then(|| (INET, TABLE.to_owned()));
        let others = filters.bases.iter().map(|base| (base.family.as_str(), base.table.clone()));
        for key in others.chain(admin) {
            let listing = ["-t", "list", "table", key.0, &key.1];
            if !filters.tables.contains_key(&key)
                && let Ok(json) = get_current_ruleset_raw(None::<&str>, listing)
            {
                filters.tables.insert(key, table(&json));
            }
        }
        Ok(filters)
    }

    /// Whether a table is there.
    pub(crate) fn has_table(&self, name: &str) -> bool {
        self.bases.iter().any(|base| base.table == name)
    }

    /// The chains that drop such a packet for certain, as nft names them.
    pub(crate) fn that_drop(&self, passing: &Passing) -> Vec<String> {
        self.bases.iter().filter(|base| self.drops(base, passing)).map(named).collect()
    }

    /// What becomes of a packet in the administrator's chain.
    pub(crate) fn administrator(&self, passing: &Passing) -> Administrator {
        if !self.has_admin_rules {
            return Administrator::Passes;
        }
        let Some(table) = self.tables.get(&(INET, TABLE.to_owned())) else { return Administrator::Unclear };
        let mut walk = Walk { table, passing, has_doubt: false, is_unclear: false };
        match walk.chain(ADMIN, 0) {
            _ if walk.has_doubt || walk.is_unclear => Administrator::Unclear,
            Some(Decision::Drop) => Administrator::Drops,
            Some(Decision::Accept) => Administrator::Accepts,
            Some(Decision::Return) | None => Administrator::Passes,
        }
    }

    /// Chains that drop what no rule lets pass, and whose rules could not be read.
    pub(crate) fn unread(&self) -> Vec<String> {
        let is_listed =
            |base: &BaseChain| self.tables.contains_key(&(base.family.as_str(), base.table.clone()));
        self.bases.iter().filter(|base| base.drops && !is_listed(base)).map(named).collect()
    }

    fn drops(&self, base: &BaseChain, passing: &Passing) -> bool {
        let is_of_family = match base.family {
            NftFamily::Ip => passing.source.is_ipv4(),
            NftFamily::Ip6 => passing.source.is_ipv6(),
            NftFamily::Inet | NftFamily::Bridge => true,
        };
        if base.hook != passing.hook as u32 || !is_of_family {
            return false;
        }
        let empty = Table::new();
        let key = (base.family.as_str(), base.table.clone());
        let table = self.tables.get(&key).unwrap_or(&empty);
        let mut walk = Walk { table, passing, has_doubt: false, is_unclear: false };
        let is_unlisted = !self.tables.contains_key(&key);
        let decision = walk.chain(&base.name, 0);
        let is_dropped = match decision {
            Some(Decision::Drop) => true,
            Some(Decision::Accept) => false,
            Some(Decision::Return) | None => base.drops,
        };
        is_dropped && !walk.has_doubt && !is_unlisted
    }
}

fn is_ours(table: &str) -> bool {
    table == TABLE || table == zeugma_plan::nft::services::TABLE || table == TRACE_TABLE
}

fn named(base: &BaseChain) -> String {
    format!("{} {} {}", base.family.as_str(), base.table, base.name)
}

/// What `nft -j list table` printed.
fn table(json: &str) -> Table {
    let parsed: Value = serde_json::from_str(json).unwrap_or_default();
    let mut table = Table::new();
    for object in parsed["nftables"].as_array().into_iter().flatten() {
        if let Some(chain) = object["rule"]["chain"].as_str() {
            let rule = serde_json::from_value::<NfListObject<'static>>(object.clone()).ok();
            let statements = rule.and_then(|object| match object {
                NfListObject::Rule(Rule { expr, .. }) => Some(expr.into_owned()),
                _ => None,
            });
            table.entry(chain.to_owned()).or_default().push(statements);
        }
    }
    table
}

/// A packet on its way through a base chain.
struct Walk<'a> {
    table: &'a Table,
    passing: &'a Passing,
    /// Some rule may have accepted it.
    has_doubt: bool,
    /// Some rule may have dropped it.
    is_unclear: bool,
}

impl Walk<'_> {
    fn chain(&mut self, name: &str, depth: u8) -> Option<Decision> {
        let rules = self.table.get(name).filter(|_| depth < DEEPEST)?;
        for rule in rules {
            match rule {
                None => self.has_doubt = true,
                Some(statements) => {
                    let decision = self.rule(statements, depth);
                    if decision.is_some() {
                        return decision;
                    }
                }
            }
        }
        None
    }

    fn rule(&mut self, statements: &[Statement<'_>], depth: u8) -> Option<Decision> {
        let mut truth = Truth::Yes;
        for statement in statements {
            let decision = match statement {
                Statement::Match(condition) => {
                    truth = truth.and(self.holds(condition));
                    None
                }
                Statement::Limit(_) | Statement::Quota(_) | Statement::XT(_) | Statement::CTCount(_) => {
                    truth = truth.and(Truth::Unknown);
                    None
                }
                Statement::Accept(_) => Some(Decision::Accept),
                Statement::Drop(_) | Statement::Reject(_) => Some(Decision::Drop),
                Statement::Return(_) => Some(Decision::Return),
                Statement::Jump(to) => {
                    self.chain(&to.target, depth + 1).filter(|end| *end != Decision::Return)
                }
                Statement::Goto(to) => self.chain(&to.target, depth + 1).or(Some(Decision::Return)),
                Statement::VerdictMap(_) | Statement::Queue(_) => {
                    self.has_doubt = true;
                    None
                }
                _ => None,
            };
            match (truth, decision) {
                (Truth::No, _) => return None,
                (Truth::Yes, Some(decision)) => return Some(decision),
                (Truth::Unknown, Some(Decision::Accept | Decision::Return)) => self.has_doubt = true,
                (Truth::Unknown, Some(Decision::Drop)) => self.is_unclear = true,
                (_, None) => {}
            }
        }
        None
    }

    fn holds(&self, condition: &Match<'_>) -> Truth {
        let Expression::Named(left) = &condition.left else { return Truth::Unknown };
        let Some(has) = self.value(left) else { return Truth::Unknown };
        let is_in = is_one_of(&has, &condition.right);
        match condition.op {
            Operator::EQ | Operator::IN => is_in,
            Operator::NEQ => is_in.not(),
            _ => Truth::Unknown,
        }
    }

    /// What the packet has there, as nft writes it; none: that is not known.
    fn value(&self, expression: &NamedExpression<'_>) -> Option<String> {
        let passing = self.passing;
        match expression {
            NamedExpression::Meta(meta) => match meta.key {
                MetaKey::Iif | MetaKey::Iifname => Some(passing.iif.clone()),
                MetaKey::Oif | MetaKey::Oifname => Some(passing.oif.clone()),
                MetaKey::Nfproto => Some(if passing.source.is_ipv4() { "ipv4" } else { "ipv6" }.into()),
                MetaKey::L4proto => passing.port.map(|(protocol, _)| protocol.to_string()),
                _ => None,
            },
            NamedExpression::Payload(Payload::PayloadField(field)) => {
                self.field(&field.protocol, &field.field)
            }
            NamedExpression::CT(ct) => match &*ct.key {
                "state" => Some("new".into()),
                "status" => Some(if passing.is_translated { "dnat" } else { "" }.into()),
                _ => None,
            },
            _ => None,
        }
    }

    /// A field that the packet's protocols do not have has no value: the kernel does not match then.
    fn field(&self, protocol: &str, field: &str) -> Option<String> {
        let passing = self.passing;
        let is_v4 = passing.source.is_ipv4();
        let no = Some(String::new());
        match (protocol, field) {
            ("ip", _) if !is_v4 => no,
            ("ip6", _) if is_v4 => no,
            ("ip" | "ip6", "saddr") => Some(passing.source.to_string()),
            ("ip" | "ip6", "daddr") => Some(passing.destination.to_string()),
            ("ip", "protocol") | ("ip6", "nexthdr") => passing.port.map(|(protocol, _)| protocol.to_string()),
            ("icmp" | "icmpv6", _) => passing.port.and(no),
            ("tcp" | "udp" | "sctp" | "th", "dport") => {
                let (of, port) = passing.port?;
                let is_it = protocol == "th" || protocol == of.as_str();
                Some(if is_it { port.to_string() } else { String::new() })
            }
            _ => None,
        }
    }
}

/// Whether what a packet has is what a rule names.
fn is_one_of(has: &str, named: &Expression<'_>) -> Truth {
    match named {
        Expression::String(text) if text.starts_with('@') => Truth::Unknown,
        Expression::String(text) => match text.strip_suffix('*') {
            Some(beginning) => Truth::of(has.starts_with(beginning)),
            None => Truth::of(has == text),
        },
        Expression::Number(number) => Truth::of(has == number.to_string()),
        Expression::List(values) => Truth::any(values.iter().map(|value| is_one_of(has, value))),
        Expression::Range(range) => {
            let [low, high] = &range.range;
            within(has, low, high)
        }
        Expression::Named(NamedExpression::Prefix(prefix)) => match &*prefix.addr {
            Expression::String(address) => covers(address, prefix.len, has),
            _ => Truth::Unknown,
        },
        Expression::Named(NamedExpression::Set(items)) => Truth::any(items.iter().map(|item| match item {
            SetItem::Element(value) => is_one_of(has, value),
            _ => Truth::Unknown,
        })),
        _ => Truth::Unknown,
    }
}

fn covers(address: &str, length: u32, has: &str) -> Truth {
    let (Ok(prefix), Ok(has)) = (format!("{address}/{length}").parse::<IpNetwork>(), has.parse()) else {
        return Truth::of(false);
    };
    Truth::of(prefix.contains(has))
}

fn within(has: &str, low: &Expression<'_>, high: &Expression<'_>) -> Truth {
    let (Expression::Number(low), Expression::Number(high)) = (low, high) else { return Truth::Unknown };
    has.parse::<u32>().map_or(Truth::No, |has| Truth::of((*low..=*high).contains(&has)))
}

impl Truth {
    fn of(is_so: bool) -> Self {
        if is_so { Self::Yes } else { Self::No }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unknown,
        }
    }

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            Self::Unknown => Self::Unknown,
        }
    }

    fn any(mut all: impl Iterator<Item = Self>) -> Self {
        let mut found = Self::No;
        all.find_map(|one| match one {
            Self::Yes => Some(Self::Yes),
            other => {
                found = if other == Self::Unknown { other } else { found };
                None
            }
        })
        .unwrap_or(found)
    }
}

#[cfg(test)]
pub(crate) mod tests;
