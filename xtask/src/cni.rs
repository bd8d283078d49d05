//! The smallest container runtime: runs a chain of CNI executables as the specification says, for the demo and
//! the benchmarks.
//!
//! Written from the specification and not from our own protocol crate, so that it drives anybody's plugins.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// A container as a runtime knows it.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    /// `CNI_CONTAINERID`.
    pub(crate) id: String,
    /// `CNI_NETNS`.
    pub(crate) netns: PathBuf,
}

impl Container {
    /// The container in the namespace that `ip netns add NAME` made.
    pub(crate) fn named(name: &str) -> Self {
        Self { id: name.to_owned(), netns: PathBuf::from("/run/netns").join(name) }
    }
}

/// A network: plugins one after the other, from one directory.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    /// `CNI_PATH`.
    pub(crate) bin_dir: PathBuf,
    /// `cniVersion`.
    pub(crate) version: &'static str,
    /// `name`.
    pub(crate) name: String,
    /// The plugin objects, as in a conflist's `plugins`.
    pub(crate) plugins: Vec<Value>,
}

impl Chain {
    /// ADD by every plugin in order; the last one's result.
    pub(crate) fn add(&self, container: &Container, ports: &[Value]) -> Result<Value> {
        let mut result = Value::Null;
        for plugin in &self.plugins {
            let config = self.config(plugin, ports, &result);
            let output = self.call("ADD", plugin, Some(container), &config)?;
            result = serde_json::from_slice(&output)
                .with_context(|| format!("{} printed no JSON", plugin["type"]))?;
        }
        Ok(result)
    }

    /// DEL by every plugin in reverse order, with the result of the ADD.
    pub(crate) fn del(&self, container: &Container, ports: &[Value], result: &Value) -> Result<()> {
        for plugin in self.plugins.iter().rev() {
            self.call("DEL", plugin, Some(container), &self.config(plugin, ports, result))?;
        }
        Ok(())
    }

    /// GC by every plugin, with no attachment valid. False when the plugins are older than GC.
    pub(crate) fn gc_everything(&self) -> Result<bool> {
        if !self.plugins.iter().all(|plugin| self.knows_gc(plugin)) {
            return Ok(false);
        }
        for plugin in &self.plugins {
            let mut config = self.config(plugin, &[], &Value::Null);
            config["cniVersion"] = json!("1.1.0");
            config["cni.dev/valid-attachments"] = json!([]);
            self.call("GC", plugin, None, &config)?;
        }
        Ok(true)
    }

    fn knows_gc(&self, plugin: &Value) -> bool {
        let answer = self.call("VERSION", plugin, None, &json!({ "cniVersion": "1.0.0" }));
        let versions: Option<Value> = answer.ok().and_then(|output| serde_json::from_slice(&output).ok());
        versions.is_some_and(|it| {
            it["supportedVersions"].as_array().is_some_and(|all| all.contains(&json!("1.1.0")))
        })
    }

    /// The plugin's configuration as the runtime derives it from the conflist.
    pub(crate) fn config(&self, plugin: &Value, ports: &[Value], previous: &Value) -> Value {
        let mut config = plugin.clone();
        config["cniVersion"] = json!(self.version);
        config["name"] = json!(self.name);
        if plugin["capabilities"]["portMappings"] == json!(true) {
            config["runtimeConfig"] = json!({ "portMappings": ports });
        }
        if !previous.is_null() {
            config["prevResult"] = previous.clone();
        }
        config
    }

    /// One call of one plugin; what it printed.
    pub(crate) fn call(
        &self,
        verb: &str,
        plugin: &Value,
        container: Option<&Container>,
        config: &Value,
    ) -> Result<Vec<u8>> {
        let kind = plugin["type"].as_str().context("a plugin object has no type")?;
        let mut command = self.command(verb, kind, container);
        feed(&mut command, &serde_json::to_vec(config)?).with_context(|| format!("{kind} {verb}"))
    }

    /// The executable of that type with its environment.
    pub(crate) fn command(&self, verb: &str, kind: &str, container: Option<&Container>) -> Command {
        let mut command = Command::new(self.bin_dir.join(kind));
        command.env("CNI_COMMAND", verb).env("CNI_PATH", &self.bin_dir);
        if let Some(container) = container {
            command.env("CNI_CONTAINERID", &container.id).env("CNI_NETNS", &container.netns);
            command.env("CNI_IFNAME", "eth0");
        }
        command
    }
}

/// A published port, as `runtimeConfig.portMappings` has it.
pub(crate) fn port(host: u32, container: u32) -> Value {
    json!({ "hostPort": host, "containerPort": container, "protocol": "tcp" })
}

/// Runs it with `input` on standard input; its standard output, or an error with all that it said.
pub(crate) fn feed(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    // A plugin that does not read its input closes the pipe; what it says then tells more than that.
    let _ = child.stdin.take().expect("stdin was piped above").write_all(input);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout).trim(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plugin_gets_its_configuration_as_the_specification_derives_it() {
        let plugin = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
        let chain = Chain {
            bin_dir: "/bin".into(),
            version: "1.0.0",
            name: "n".to_owned(),
            plugins: vec![plugin.clone()],
        };
        let config = chain.config(&plugin, &[port(8080, 80)], &json!({ "ips": [] }));
        assert_eq!(config["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
        assert_eq!((&config["name"], &config["cniVersion"]), (&json!("n"), &json!("1.0.0")));
        assert_eq!(config["prevResult"], json!({ "ips": [] }));
        let bare = chain.config(&json!({ "type": "tuning" }), &[port(1, 1)], &Value::Null);
        assert!(bare.get("runtimeConfig").is_none() && bare.get("prevResult").is_none());
    }
}
