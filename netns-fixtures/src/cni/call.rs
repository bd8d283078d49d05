//! One call of one CNI executable: environment and config in, result or error object out.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Attachment;
use crate::{Finished, Host};

/// A call that is being put together. Everything the specification demands is set; tests may break it.
#[derive(Clone, Debug)]
pub struct Call {
    bin_dir: PathBuf,
    plugin: String,
    env: Vec<(String, String)>,
    stdin: String,
}

/// What a call brought: exit status, stdout and stderr as they were.
#[derive(Clone, Debug)]
pub struct Outcome {
    plugin: String,
    /// The ended process.
    pub finished: Finished,
}

/// The error object that a plugin printed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{plugin}: code {code}: {msg}{}{details}", if details.is_empty() { "" } else { ": " })]
pub struct CniError {
    /// Which plugin.
    pub plugin: String,
    /// `code`; 0 when the plugin failed without printing an error object, which is a fault of its own.
    pub code: u64,
    /// `msg`.
    pub msg: String,
    /// `details`, empty when absent.
    pub details: String,
}

impl Call {
    /// `CNI_COMMAND=command` of `bin_dir/plugin`, with `config` on stdin.
    pub fn new(bin_dir: impl Into<PathBuf>, plugin: &str, command: &str, config: &Value) -> Call {
        let bin_dir = bin_dir.into();
        let env =
            vec![("CNI_COMMAND".into(), command.into()), ("CNI_PATH".into(), bin_dir.display().to_string())];
        Call { bin_dir, plugin: plugin.into(), env, stdin: config.to_string() }
    }

    /// Adds the environment that names an attachment.
    pub fn of(self, attachment: &Attachment) -> Call {
        let netns = attachment.netns_path().map(|path| path.display().to_string());
        let call = self.env("CNI_CONTAINERID", attachment.id()).env("CNI_IFNAME", attachment.ifname());
        call.env("CNI_NETNS", &netns.unwrap_or_default()).env("CNI_ARGS", &attachment.args)
    }

    /// Sets one variable; the last value given counts.
    pub fn env(mut self, key: &str, value: &str) -> Call {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Forgets one variable.
    pub fn without(mut self, key: &str) -> Call {
        self.env.retain(|(name, _)| name != key);
        self
    }

    /// Sends this text instead of the config.
    pub fn stdin(mut self, text: &str) -> Call {
        self.stdin = text.into();
        self
    }

    /// Runs it in `host`, however it ends.
    ///
    /// # Errors
    /// When the executable cannot be started or hangs.
    pub fn output(self, host: &Host) -> Result<Outcome> {
        let command = host.command(self.bin_dir.join(&self.plugin)).stdin(self.stdin);
        let command = self.env.iter().fold(command, |command, (key, value)| command.env(key, value));
        Ok(Outcome { plugin: self.plugin, finished: command.output()? })
    }

    /// Runs it in `host` and returns the result it printed, `null` for none.
    ///
    /// # Errors
    /// The error object that the plugin printed (a [`CniError`] to downcast to).
    pub fn run(self, host: &Host) -> Result<Value> {
        self.output(host)?.result()
    }
}

impl Outcome {
    /// Stdout as JSON (`null` when there is none) when the plugin succeeded, its error object when not.
    ///
    /// # Errors
    /// A [`CniError`], or that a success came with no JSON.
    pub fn result(&self) -> Result<Value> {
        let stdout = &self.finished.stdout;
        if !self.finished.status.success() {
            return Err(self.error().into());
        }
        if stdout.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(stdout).with_context(|| format!("{} printed no JSON: {stdout}", self.plugin))
    }

    /// The error object; code 0 with all that was said when there is none.
    pub fn error(&self) -> CniError {
        let Finished { status, stdout, stderr } = &self.finished;
        let object = serde_json::from_str::<Value>(stdout).unwrap_or_default();
        let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        match object["code"].as_u64() {
            Some(code) => {
                CniError { plugin: self.plugin.clone(), code, msg: text("msg"), details: text("details") }
            }
            None => CniError {
                plugin: self.plugin.clone(),
                code: 0,
                msg: format!("{status} without an error object"),
                details: format!("{stdout}{stderr}"),
            },
        }
    }
}
