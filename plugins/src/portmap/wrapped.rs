//! `portmap` around another plugin, in one configuration: what a caller that knows no lists of plugins (Mesos)
//! configures as `delegate`. The delegate attaches the container; its result is what `portmap` works on.

use std::path::PathBuf;

use serde_json::{Map, Value};
use zeugma_protocol::{CniResult, DecodeError, NetConf, read_key};
use zeugma_skel::delegate::{self, Caller, DelegateError};
use zeugma_skel::{Command, NetworkRequest, Request};

use crate::cause::Cause;

/// The plugin that `portmap` is wrapped around.
pub(super) struct Wrapped {
    plugin_type: String,
    stdin: Vec<u8>,
}

impl Wrapped {
    /// None: `portmap` stands in a list, or alone. Reads no other key: DEL must work with them wrong.
    pub(super) fn of(conf: &NetConf) -> Result<Option<Self>, DecodeError> {
        let Some(config) = read_key::<Map<String, Value>>(&conf.raw, "", "delegate")? else {
            return Ok(None);
        };
        let plugin_type = read_key(&config, "delegate", "type")?.unwrap_or_default();
        let stdin = Value::Object(completed(config, conf)).to_string().into_bytes();
        Ok(Some(Self { plugin_type, stdin }))
    }

    /// Attaches the container. After a failure the delegate has been told to undo what it may have begun.
    pub(super) fn add(&self, request: &Request) -> Result<CniResult, Cause> {
        let added = self.exec(Command::Add, request, &request.path);
        if added.is_err() {
            self.give_up(request);
        }
        Ok(added?.unwrap_or_default())
    }

    /// Detaches it again after a failure; that failure is the one to tell.
    pub(super) fn give_up(&self, request: &Request) {
        let _ = self.exec(Command::Del, request, &request.path);
    }

    /// DEL and CHECK.
    pub(super) fn pass_on(&self, command: Command, request: &Request) -> Result<(), Cause> {
        Ok(self.exec(command, request, &request.path).map(drop)?)
    }

    /// GC and STATUS. An executable that does not know the verb is not at fault.
    pub(super) fn pass_on_network(&self, command: Command, request: &NetworkRequest) -> Result<(), Cause> {
        match self.exec(command, request, &request.path) {
            Err(error) if error.is_unknown_verb() => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// The command of an ADD, for a dry run.
    pub(super) fn preview(&self) -> String {
        format!("host: exec {} (CNI_COMMAND=ADD)\n", self.plugin_type)
    }

    fn exec(
        &self,
        command: Command,
        caller: &impl Caller,
        path: &[PathBuf],
    ) -> Result<Option<CniResult>, DelegateError> {
        delegate::exec(&delegate::find(&self.plugin_type, path)?, command, caller, &self.stdin)
    }
}

/// The delegate's configuration with what the caller says to `portmap`: network and arguments always, the rest
/// where the delegate's does not say it itself.
fn completed(mut config: Map<String, Value>, conf: &NetConf) -> Map<String, Value> {
    const ALWAYS: [&str; 2] = ["name", "args"];
    const UNLESS_SAID: [&str; 6] = [
        "cniVersion",
        "dns",
        "runtimeConfig",
        "prevResult",
        "cni.dev/valid-attachments",
        "cni.dev/attachments",
    ];
    for key in ALWAYS.into_iter().chain(UNLESS_SAID) {
        match conf.raw.get(key) {
            Some(value) if ALWAYS.contains(&key) || !config.contains_key(key) => {
                config.insert(key.into(), value.clone());
            }
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_delegate_is_told_what_the_caller_tells() {
        let args = json!({ "org.apache.mesos": { "network_info": { "name": "net" } } });
        let conf = json!({
            "name": "net", "type": "portmap", "args": args, "dns": { "domain": "outer" }, "chain": "MESOS",
            "delegate": { "type": "bridge", "name": "other", "dns": { "domain": "own" } },
        });
        let conf = NetConf::parse(conf.to_string().as_bytes()).unwrap();
        let wrapped = Wrapped::of(&conf).unwrap().unwrap();
        let told: Value = serde_json::from_slice(&wrapped.stdin).unwrap();
        let expected = json!({ "name": "net", "type": "bridge", "args": args, "dns": { "domain": "own" } });
        assert_eq!((wrapped.plugin_type.as_str(), told), ("bridge", expected));
    }
}
