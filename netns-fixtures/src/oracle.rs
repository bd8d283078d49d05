//! What a host's kernel holds, as `ip`, `nft` and `conntrack` tell it.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::Host;

impl Host {
    /// `ip -j` with the words of `line` (`addr`, `-d link show eth0`, `-6 route`); `[]` when it says nothing.
    ///
    /// # Errors
    /// When `ip` fails, as for an interface that does not exist.
    pub fn ip_json(&self, line: &str) -> Result<Value> {
        let text = self.command("ip").arg("-j").args(line.split_whitespace()).run()?.stdout;
        if text.trim().is_empty() {
            return Ok(json!([]));
        }
        serde_json::from_str(&text).with_context(|| format!("ip -j {line} printed no JSON: {text}"))
    }

    /// What `tc -j` says about the words of `line`: `qdisc show dev eth0`.
    ///
    /// # Errors
    /// When `tc` refuses, or prints no JSON.
    pub fn tc_json(&self, line: &str) -> Result<Value> {
        let text = self.command("tc").arg("-j").args(line.split_whitespace()).run()?.stdout;
        serde_json::from_str(&text).with_context(|| format!("tc -j {line} printed no JSON: {text}"))
    }

    /// The whole ruleset as `nft -j` has it. Its JSON is wrong for some maps; prefer traffic and text.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn nft_json(&self) -> Result<Value> {
        let text = self.run(["nft", "-j", "list", "ruleset"])?.stdout;
        serde_json::from_str(&text).context("nft -j printed no JSON")
    }

    /// One table (`inet zeugma`) as text without counters, elements sorted and one to a line.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn nft_table(&self, table: &str) -> Result<String> {
        let command = self.command("nft").args(["-s", "list", "table"]);
        Ok(sort_elements(&command.args(table.split_whitespace()).run()?.stdout))
    }

    /// The whole ruleset as text without counters, elements sorted and one to a line.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn nft_ruleset(&self) -> Result<String> {
        Ok(sort_elements(&self.run(["nft", "-s", "list", "ruleset"])?.stdout))
    }

    /// All tracked flows of both families, a line each.
    ///
    /// # Errors
    /// When `conntrack` fails.
    pub fn conntrack(&self) -> Result<Vec<String>> {
        let mut flows = Vec::new();
        for family in ["ipv4", "ipv6"] {
            let listing = self.run(["conntrack", "-L", "-f", family])?.stdout;
            flows.extend(listing.lines().map(str::to_owned));
        }
        Ok(flows)
    }
}

/// Kernel sets are hashes: their listing order means nothing and would make snapshots flicker.
fn sort_elements(listing: &str) -> String {
    const OPEN: &str = "elements = {";
    let mut sorted = String::new();
    let mut rest = listing;
    while let Some(start) = rest.find(OPEN) {
        let (before, block) = rest.split_at(start + OPEN.len());
        let (mut elements, after) = split_elements(block);
        elements.sort_unstable();
        let indent: String = before.chars().rev().skip(OPEN.len()).take_while(|c| *c == '\t').collect();
        sorted += before;
        for element in elements {
            sorted += &format!("\n{indent}\t{element},");
        }
        sorted += &format!("\n{indent}");
        rest = after;
    }
    sorted + rest
}

/// The elements up to the closing brace, and the text from that brace on. Commas in comments do not part.
fn split_elements(block: &str) -> (Vec<&str>, &str) {
    let (mut elements, mut start, mut quoted) = (Vec::new(), 0, false);
    for (at, c) in block.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' | '}' if !quoted => {
                elements.push(block[start..at].trim());
                start = at + 1;
                if c == '}' {
                    elements.retain(|element| !element.is_empty());
                    return (elements, &block[at..]);
                }
            }
            _ => {}
        }
    }
    (elements, "")
}

#[cfg(test)]
mod tests {
    use super::sort_elements;

    #[test]
    fn elements_are_sorted_and_commas_in_comments_stay() {
        let listing = "\tset s {\n\t\telements = { 2 comment \"a, }\",\n\t\t\t\t 1 }\n\t}\n";
        let sorted = "\tset s {\n\t\telements = {\n\t\t\t1,\n\t\t\t2 comment \"a, }\",\n\t\t}\n\t}\n";
        assert_eq!(sort_elements(listing), sorted);
    }
}
