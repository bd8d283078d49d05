//! What `iptables-save` prints, and what to tell `iptables-restore --noflush` so that an attachment's chains and
//! rules go and no other's. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use zeugma_plan::Family;

use super::trace::{FORWARD, Part, Trace, named_in};

/// A listing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) tables: Vec<Table>,
}

/// A table of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) chains: Vec<String>,
    pub(super) rules: Vec<Rule>,
}

/// A rule of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) chain: String,
    /// Behind the chain's name, as it was printed: given back, it means the same rule.
    text: String,
    words: Vec<String>,
}

impl Rule {
    /// The word behind a flag; none where the flag is negated.
    pub(super) fn value(&self, flag: &str) -> Option<&str> {
        let at = self.words.iter().position(|word| word == flag)?;
        let negated = at > 0 && self.words[at - 1] == "!";
        self.words.get(at + 1).filter(|_| !negated).map(String::as_str)
    }

    /// The chain that it jumps to, or the target.
    pub(super) fn target(&self) -> Option<&str> {
        self.value("-j").or_else(|| self.value("-g"))
    }

    /// The one address that it is for.
    pub(super) fn source(&self) -> Option<IpAddr> {
        host_address(self.value("-s")?)
    }

    /// Network and container that its comment names.
    pub(super) fn owner(&self) -> Option<(&str, &str)> {
        named_in(self.value("--comment")?)
    }
}

/// `10.0.0.1`, `10.0.0.1/32`; none for subnets.
pub(super) fn host_address(text: &str) -> Option<IpAddr> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().ok()?;
    let whole = if address.is_ipv4() { "32" } else { "128" };
    ["", whole].contains(&prefix).then_some(address)
}

impl Saved {
    pub(super) fn parse(listing: &str) -> Self {
        let mut tables: Vec<Table> = Vec::new();
        for line in listing.lines() {
            if let Some(name) = line.strip_prefix('*') {
                tables.push(Table { name: name.trim().to_owned(), ..Table::default() });
            } else if let Some(table) = tables.last_mut() {
                table.read(line);
            }
        }
        Self { tables }
    }

    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The input of `iptables-restore --noflush` that removes what `traces` made; none when nothing of it is there.
    pub(super) fn without(&self, traces: &[Trace]) -> Option<String> {
        let mut script = String::new();
        for table in &self.tables {
            let lines = table.without(traces);
            if !lines.is_empty() {
                let _ = writeln!(script, "*{}\n{}\nCOMMIT", table.name, lines.join("\n"));
            }
        }
        (!script.is_empty()).then_some(script)
    }
}

impl Table {
    fn read(&mut self, line: &str) {
        if let Some(chain) = line.strip_prefix(':') {
            self.chains.extend(chain.split_whitespace().next().map(str::to_owned));
        } else if let Some((chain, text)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
            self.rules.push(Rule { chain: chain.to_owned(), text: text.to_owned(), words: words(text) });
        }
    }

    pub(super) fn jumps_to<'a>(&'a self, chain: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| rule.target() == Some(chain))
    }

    fn without(&self, traces: &[Trace]) -> Vec<String> {
        let mut wanted: BTreeMap<String, Vec<&Trace>> = BTreeMap::new();
        for trace in traces.iter().filter(|_| self.name == "nat") {
            for chain in trace.chains() {
                wanted.entry(chain).or_default().push(trace);
            }
        }
        let goes_to_wanted = |rule: &Rule| {
            let traces = rule.target().and_then(|target| wanted.get(target));
            traces.is_some_and(|traces| traces.iter().any(|trace| is_of(rule, trace)))
        };
        let forwards = |rule: &Rule| self.name == "filter" && lets_through(rule, traces);
        let is_doomed = |rule: &&Rule| goes_to_wanted(rule) || forwards(rule);
        let doomed = self.rules.iter().filter(is_doomed);
        let deletions = doomed.map(|rule| format!("-D {} {}", rule.chain, rule.text));
        let is_unused =
            |chain: &&String| self.chains.contains(chain) && self.jumps_to(chain).all(&goes_to_wanted);
        let unused: Vec<&String> = wanted.keys().filter(is_unused).collect();
        let flushes = unused.iter().map(|chain| format!("-F {chain}"));
        deletions.chain(flushes).chain(unused.iter().map(|chain| format!("-X {chain}"))).collect()
    }
}

/// The reference has one chain for all interfaces that a container has on a network: a jump for another of its
/// addresses stays, and the chain with it.
fn is_of(jump: &Rule, trace: &Trace) -> bool {
    trace.addresses.is_empty() || jump.source().is_none_or(|source| trace.addresses.contains(&source))
}

/// The two rules of `firewall` for an address, and nothing that somebody else might have put beside them.
fn lets_through(rule: &Rule, traces: &[Trace]) -> bool {
    let subject = rule.value("-s").or_else(|| rule.value("-d")).and_then(host_address);
    rule.chain == FORWARD
        && subject.is_some_and(|address| {
            let is_its = |trace: &Trace| trace.has(Part::Forwarding) && trace.addresses.contains(&address);
            traces.iter().any(is_its) && forwarding(address).contains(&rule.text)
        })
}

/// The rules of `firewall` for an address, as they are listed.
pub(super) fn forwarding(address: IpAddr) -> [String; 2] {
    let host = if address.is_ipv4() { 32 } else { 128 };
    [
        format!("-d {address}/{host} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        format!("-s {address}/{host} -j ACCEPT"),
    ]
}

impl Saved {
    /// Whether `firewall` lets this address through.
    pub(super) fn forwards(&self, address: IpAddr) -> bool {
        let has = |text: &String| {
            let rules = self.table("filter").into_iter().flat_map(|table| &table.rules);
            rules.into_iter().any(|rule| rule.chain == FORWARD && rule.text == *text)
        };
        forwarding(address).iter().all(has)
            && self
                .table("filter")
                .is_some_and(|table| table.jumps_to(FORWARD).any(|it| it.chain == "FORWARD"))
    }

    /// Whether traffic from this address is masqueraded by the attachment's chain.
    pub(super) fn masquerades(&self, trace: &Trace, address: IpAddr) -> bool {
        let chain = trace.masquerade_chain();
        self.table("nat").is_some_and(|nat| {
            nat.jumps_to(&chain).any(|jump| jump.source() == Some(address))
                && nat.rules.iter().any(|rule| rule.chain == chain && rule.target() == Some("MASQUERADE"))
        })
    }
}

/// A port that a container's chain leads to the container.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Published<'a> {
    pub(super) protocol: &'a str,
    pub(super) port: u16,
    pub(super) family: Family,
    /// None: all of the host's.
    pub(super) address: Option<IpAddr>,
    /// As `10.88.0.2:80`.
    pub(super) to: &'a str,
    /// Network and container.
    pub(super) owner: (&'a str, &'a str),
}

impl Saved {
    /// Every port that `portmap` publishes.
    pub(super) fn published(&self, family: Family) -> Vec<Published<'_>> {
        let Some(nat) = self.table("nat") else { return Vec::new() };
        nat.rules.iter().filter_map(|rule| published(nat, rule, family)).collect()
    }
}

fn published<'a>(nat: &'a Table, rule: &'a Rule, family: Family) -> Option<Published<'a>> {
    let to = rule.value("--to-destination").filter(|_| rule.chain.starts_with("CNI-DN-"))?;
    let entry = nat.jumps_to(&rule.chain).next()?;
    Some(Published {
        protocol: rule.value("-p")?,
        port: rule.value("--dport")?.parse().ok()?,
        family,
        address: rule.value("-d").and_then(host_address),
        to,
        owner: entry.owner()?,
    })
}

/// Splits as the shell does for what iptables-save quotes: double quotes, and a backslash before `"` and `\`.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => (quoted, begun) = (!quoted, true),
            '\\' if quoted => word.extend(letters.next()),
            ' ' if !quoted => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            letter => word.push(letter),
        }
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests;
