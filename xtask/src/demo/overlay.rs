//! The demo's overlay: two hosts of a lab, and the encrypted network that both have.

use std::env;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, ensure};

use super::story::poll;
use crate::shell;

/// What `web` says.
const PAGE: &str = "hello from the container web";
/// The lab's name, which is its file's.
const LAB: &str = "two-hosts";
const FILE: &str = "xtask/src/demo/two-hosts.yaml";

/// Sets the lab up, asks `web` from the other host by the service's name, shows the way, and takes the lab down.
pub(super) fn try_it(bin_dir: &Path) -> Result<()> {
    run(bin_dir, &["lab", "up", FILE])?;
    let tried = ask(bin_dir);
    run(bin_dir, &["lab", "down", LAB])?;
    println!();
    tried
}

fn ask(bin_dir: &Path) -> Result<()> {
    let curl = ["lab", "exec", "client", "--", "curl", "-sS", "--max-time", "2", "http://shop/"];
    let said = poll(|| zeugma(bin_dir, &curl))?;
    ensure!(said.contains(PAGE), "the container of the other host answered {said:?}");
    println!("   $ zeugma {}\n      {}", curl.join(" "), said.trim());
    run(bin_dir, &["lab", "exec", "two", "--", "zeugma", "peers"])?;
    run(bin_dir, &["lab", "exec", "two", "--", "zeugma", "trace", "client", "10.213.0.80:80"])
}

fn zeugma(bin_dir: &Path, words: &[&str]) -> Result<String> {
    let mut path = OsString::from(bin_dir);
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    shell::read(shell::command(&bin_dir.join("zeugma").to_string_lossy(), words).env("PATH", path))
}

/// Shows the command and what it prints.
fn run(bin_dir: &Path, words: &[&str]) -> Result<()> {
    let printed = zeugma(bin_dir, words)?;
    println!("   $ zeugma {}", words.join(" "));
    printed.trim_end().lines().for_each(|line| println!("      {line}"));
    Ok(())
}
