//! The demo's service: made by the commands that a user types, asked by its address, its name and its port of the host.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::story::poll;
use crate::netns::ip_exec;
use crate::shell;

/// Its port on the host.
const PORT: u32 = 8081;
/// Connections after which both containers have answered, but for one time in 2^99.
const TRIES: u32 = 100;

/// `web` serves by its name, `db` is added by its address.
pub(super) fn try_it(zeugma: &Path, db: &str, host: &str, gateway: &str) -> Result<()> {
    let publish = format!("{PORT}:80");
    let named = "zeugma.name=web";
    run(
        zeugma,
        &[
            "service",
            "create",
            "shop",
            "--network",
            "demo",
            "--port",
            "80",
            "--publish",
            &publish,
            "--selector",
            named,
        ],
    )?;
    run(zeugma, &["endpoint", "add", "shop", db])?;
    let vip = vip(zeugma)?;
    ensure_both_answer("outside", &format!("http://{host}:{PORT}/"))?;
    ensure_both_answer("db", &format!("http://{vip}/"))?;
    let name = "shop.zeugma.internal";
    let said = poll(|| ip_exec("web", &format!("busybox nslookup -type=a {name} {gateway}")))?;
    ensure!(said.contains(&format!("Address: {vip}")), "the resolver answered {said:?}");
    println!("   web: nslookup {name} {gateway} -> {vip}");
    run(zeugma, &["service", "ps", "shop"])?;
    run(zeugma, &["service", "rm", "shop"])?;
    println!();
    Ok(())
}

fn vip(zeugma: &Path) -> Result<String> {
    let text = shell::read(&mut shell::command(&zeugma.to_string_lossy(), ["service", "inspect", "shop"]))?;
    let services: Value = serde_json::from_str(&text).context("`zeugma service inspect` prints no JSON")?;
    let vip = services[0]["service"]["vips"][0].as_str();
    Ok(vip.with_context(|| format!("no virtual address in {services}"))?.to_owned())
}

fn ensure_both_answer(from: &str, url: &str) -> Result<()> {
    let (mut web, mut db) = (false, false);
    for _ in 0..TRIES {
        let page = poll(|| ip_exec(from, &format!("curl -sS --max-time 2 {url}")))?;
        web |= page.contains("container web");
        db |= page.contains("container db");
        if web && db {
            println!("   {from}: curl {url} -> web and db answer, by turns of chance");
            return Ok(());
        }
    }
    bail!("{url}: of both containers only {} answered", if web { "web" } else { "db" })
}

/// Shows the command and what it prints.
fn run(zeugma: &Path, words: &[&str]) -> Result<()> {
    let printed = shell::read(&mut shell::command(&zeugma.to_string_lossy(), words))?;
    println!("   $ zeugma {}", words.join(" "));
    printed.trim_end().lines().for_each(|line| println!("      {line}"));
    Ok(())
}
