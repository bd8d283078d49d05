//! The node agent on a host of a stage: started, asked by `curl` and `dig`, ended. What it promises is in
//! `tests/agent.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_fixtures::{Host, HostCommand, Running, eventually};
use serde_json::{Value, json};

use crate::bin_dir;

/// Longer than anything here takes on a loaded machine.
pub const SOON: Duration = Duration::from_secs(20);

/// An agent that runs until this is dropped, which kills it.
#[derive(Debug)]
pub struct Agent {
    /// Its process.
    pub process: Running,
    host: Host,
}

/// The command that runs it.
pub fn command(host: &Host) -> HostCommand {
    host.command(bin_dir().join("zeugma")).arg("agent")
}

impl Agent {
    /// Starts it and waits until names are served.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn start(host: &Host) -> Result<Agent> {
        Agent::run(host, command(host))
    }

    /// The same with a command of the caller's.
    ///
    /// # Errors
    /// When names are not served soon.
    pub fn run(host: &Host, command: HostCommand) -> Result<Agent> {
        let agent = Agent { process: command.spawn()?, host: host.clone() };
        let serves = || agent.process.log().contains("names are served");
        ensure!(eventually(SOON, serves), "the agent does not serve names: {}", agent.process.log());
        Ok(agent)
    }

    /// What the API says at a path, as status code and JSON.
    ///
    /// # Errors
    /// When nobody answers, or no JSON comes.
    pub fn get(&self, path: &str) -> Result<(u16, Value)> {
        self.ask(&[], path)
    }

    /// The same with a body, by POST.
    ///
    /// # Errors
    /// As [`Agent::get`].
    pub fn post(&self, path: &str, body: &str) -> Result<(u16, Value)> {
        self.ask(&["--data-binary", body], path)
    }

    /// The same by PUT, with a JSON body.
    ///
    /// # Errors
    /// As [`Agent::get`].
    pub fn put(&self, path: &str, body: &Value) -> Result<(u16, Value)> {
        self.ask(&["--request", "PUT", "--json", &body.to_string()], path)
    }

    /// By DELETE.
    ///
    /// # Errors
    /// As [`Agent::get`].
    pub fn delete(&self, path: &str) -> Result<(u16, Value)> {
        self.ask(&["--request", "DELETE"], path)
    }

    fn ask(&self, words: &[&str], path: &str) -> Result<(u16, Value)> {
        let socket = self.host.run_dir().join("agent.sock");
        let curl =
            self.host.command("curl").args(["--silent", "--show-error", "--write-out", "\n%{http_code}"]);
        let curl = curl.arg("--unix-socket").arg(socket).args(words).arg(format!("http://agent{path}"));
        let text = curl.run()?.stdout;
        let (body, code) = text.rsplit_once('\n').context("curl says no status code")?;
        Ok((code.parse()?, serde_json::from_str(body).unwrap_or_else(|_| json!(body))))
    }

    /// The status.
    ///
    /// # Errors
    /// As [`Agent::get`].
    pub fn status(&self) -> Result<Value> {
        Ok(self.get("/v1/status")?.1)
    }

    /// A page of the loopback port, as status code and text.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn page(&self, path: &str) -> Result<(u16, String)> {
        let curl =
            self.host.command("curl").args(["--silent", "--show-error", "--write-out", "\n%{http_code}"]);
        let text = curl.arg(format!("http://127.0.0.1:9253{path}")).run()?.stdout;
        let (body, code) = text.rsplit_once('\n').context("curl says no status code")?;
        Ok((code.parse()?, body.into()))
    }
}

/// What `dig +short` says, sorted; more words, such as `+tcp` or `AAAA`, stand in `question`.
///
/// # Errors
/// When nothing answers.
pub fn dig(from: &Host, server: &str, question: &str) -> Result<Vec<String>> {
    dig_at(from, server, "53", question)
}

/// Waits until `dig` is told this: an ADD or DEL waits for an agent no longer than 200 ms, however busy the machine is.
///
/// # Errors
/// With what it is told instead.
pub fn ensure_told(from: &Host, server: &str, question: &str, expected: &[String]) -> Result<()> {
    let told = || dig(from, server, question);
    let is_so = || told().is_ok_and(|lines| lines == expected);
    ensure!(eventually(SOON, is_so), "{question}: {:?} instead of {expected:?}", told());
    Ok(())
}

/// What [`dig`] says at another port.
///
/// # Errors
/// As there.
pub fn dig_at(from: &Host, server: &str, port: &str, question: &str) -> Result<Vec<String>> {
    let dig =
        from.command("dig").args(["+short", "+tries=5", "+time=3", "-p", port]).arg(format!("@{server}"));
    let text = dig.args(question.split_whitespace()).run()?.stdout;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    Ok(lines)
}
