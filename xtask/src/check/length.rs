//! How long functions and files are: a report, and two limits that fail.
//!
//! Length stands for "can be read at once"; no other quality is judged here.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::shell;

/// No function is longer, in lines from its signature to its closing brace.
const FUNCTION_LIMIT: usize = 70;
/// No file is longer, not counting its test modules; files of tests are not limited.
const FILE_LIMIT: usize = 500;
/// What the medians aim at, for the report.
const GOALS: &str = "goal: function median <= 8, p90 <= 25, file <= 250";

/// A length with its place.
#[derive(Debug, PartialEq, Eq)]
struct Measured {
    lines: usize,
    place: String,
}

/// Lengths found in one file or in many.
#[derive(Default)]
struct Lengths {
    functions: Vec<Measured>,
    files: Vec<Measured>,
}

/// Prints the report and fails when a limit is broken.
pub(crate) fn check() -> Result<()> {
    let root = shell::workspace_root();
    let mut found = Lengths::default();
    for file in rust_files(root)? {
        let text = fs::read_to_string(&file)?;
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        measure(&name, &text, &mut found).with_context(|| format!("cannot parse {name}"))?;
    }
    report("functions", &found.functions);
    report("files", &found.files);
    println!("  {GOALS}");
    let broken: Vec<_> =
        over(&found.functions, FUNCTION_LIMIT).chain(over(&found.files, FILE_LIMIT)).collect();
    if broken.is_empty() { Ok(()) } else { bail!("too long:\n  {}", broken.join("\n  ")) }
}

/// The repository's own sources: tracked or new, not ignored.
fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut git = shell::command("git", ["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]);
    let listed = shell::read(&mut git)?;
    Ok(listed.lines().map(|line| root.join(line)).filter(|file| file.is_file()).collect())
}

fn measure(name: &str, text: &str, found: &mut Lengths) -> syn::Result<()> {
    let mut lines = Lines { file: name, functions: Vec::new(), tests: 0 };
    lines.visit_file(&syn::parse_file(text)?);
    found.functions.append(&mut lines.functions);
    if !is_test_file(name) {
        let code = text.lines().count() - lines.tests;
        found.files.push(Measured { lines: code, place: name.to_owned() });
    }
    Ok(())
}

fn is_test_file(name: &str) -> bool {
    name.contains("tests/") || name.ends_with("/tests.rs") || name.ends_with("_tests.rs")
}

fn over(all: &[Measured], limit: usize) -> impl Iterator<Item = String> + '_ {
    let line = move |m: &Measured| format!("{}: {} lines, the limit is {limit}", m.place, m.lines);
    all.iter().filter(move |m| m.lines > limit).map(line)
}

fn report(what: &str, all: &[Measured]) {
    let mut lines: Vec<usize> = all.iter().map(|m| m.lines).collect();
    lines.sort_unstable();
    let (Some(longest), Some(median), Some(p90)) =
        (all.iter().max_by_key(|m| m.lines), quantile(&lines, 50), quantile(&lines, 90))
    else {
        return;
    };
    println!(
        "length: {} {what}, median {median}, p90 {p90}, longest {} ({})",
        lines.len(),
        longest.lines,
        longest.place
    );
}

/// Of sorted values, the one that `percent` of them do not exceed.
fn quantile(sorted: &[usize], percent: usize) -> Option<usize> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

/// Collects from one file.
struct Lines<'a> {
    file: &'a str,
    functions: Vec<Measured>,
    /// Lines inside `#[cfg(test)] mod …`.
    tests: usize,
}

impl Lines<'_> {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        let place = format!("{}:{first} {}", self.file, signature.ident);
        self.functions.push(Measured { lines: last - first + 1, place });
    }
}

impl<'ast> Visit<'ast> for Lines<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = |attr: &syn::Attribute| {
            attr.path().is_ident("cfg")
                && attr.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        };
        if item.content.is_some() && item.attrs.iter().any(is_test) {
            self.tests += item.span().end().line - item.span().start().line + 1;
        }
        visit::visit_item_mod(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(name: &str, text: &str) -> (Vec<usize>, Vec<usize>) {
        let mut found = Lengths::default();
        measure(name, text, &mut found).unwrap();
        let lines = |all: &[Measured]| all.iter().map(|m| m.lines).collect();
        (lines(&found.functions), lines(&found.files))
    }

    #[test]
    fn functions_count_from_signature_to_brace() {
        let text = "/// Doc.\n#[inline]\nfn a() {\n    let _ = 1;\n}\nstruct S;\nimpl S { fn b() {} }\n";
        assert_eq!(lengths("src/a.rs", text), (vec![3, 1], vec![7]));
    }

    #[test]
    fn test_modules_do_not_lengthen_a_file() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\n";
        assert_eq!(lengths("src/a.rs", text), (vec![1, 2], vec![1]));
    }

    #[test]
    fn files_of_tests_are_not_limited() {
        assert_eq!(lengths("crates/a/tests/b.rs", "fn a() {}\n"), (vec![1], vec![]));
        assert_eq!(lengths("src/tests.rs", "fn a() {}\n"), (vec![1], vec![]));
    }

    #[test]
    fn what_is_over_the_limit_is_named() {
        let all = [
            Measured { lines: 71, place: "a.rs:1 f".to_owned() },
            Measured { lines: 70, place: "b".to_owned() },
        ];
        assert_eq!(over(&all, 70).collect::<Vec<_>>(), ["a.rs:1 f: 71 lines, the limit is 70"]);
    }

    #[test]
    fn quantiles_are_of_the_values() {
        let sorted: Vec<usize> = (1..=10).collect();
        assert_eq!(
            (quantile(&sorted, 50), quantile(&sorted, 90), quantile(&[], 50)),
            (Some(5), Some(9), None)
        );
    }
}
