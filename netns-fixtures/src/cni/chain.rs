//! A conflist driven as libcni does: prevResult from plugin to plugin, cached for CHECK and DEL.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{Attachment, Call};
use crate::Host;

/// A network's plugins, and the results of its attachments as a runtime caches them. Made for use from
/// many threads at once.
#[derive(Debug)]
pub struct Chain {
    bin_dir: PathBuf,
    name: String,
    version: String,
    plugins: Vec<Map<String, Value>>,
    cache: Mutex<HashMap<Key, Value>>,
}

/// Host, container id and ifname: one chain may serve several hosts.
type Key = (String, String, String);

/// From this version on CHECK exists and DEL gets prevResult.
const CHECK_SINCE: (u32, u32) = (0, 4);

impl Chain {
    /// A chain of the executables in `bin_dir` after `conflist` (`cniVersion`, `name`, `plugins`).
    ///
    /// # Errors
    /// When `conflist` has no name or no list of plugins.
    pub fn new(bin_dir: impl AsRef<Path>, conflist: Value) -> Result<Chain> {
        let name = conflist["name"].as_str().context("a conflist needs a name")?;
        let version = conflist["cniVersion"].as_str().unwrap_or("0.1.0");
        let plugins = conflist["plugins"].as_array().context("a conflist needs plugins")?;
        let plugins =
            plugins.iter().map(|plugin| plugin.as_object().cloned().context("a plugin is an object"));
        Ok(Chain {
            bin_dir: bin_dir.as_ref().into(),
            name: name.into(),
            version: version.into(),
            plugins: plugins.collect::<Result<_>>()?,
            cache: Mutex::default(),
        })
    }

    /// ADD of every plugin in order; the last result is cached and returned. Undoes nothing on failure: as
    /// with real runtimes DEL is the caller's.
    ///
    /// # Errors
    /// The first plugin's error (a [`CniError`](crate::CniError) to downcast to).
    pub fn add(&self, host: &Host, attachment: &Attachment) -> Result<Value> {
        let mut result = Value::Null;
        for plugin in &self.plugins {
            let config = self.config(host, plugin, Some(attachment), Some(&result));
            result = self.call(plugin, "ADD", &config).of(attachment).run(host)?;
        }
        self.cache().insert(key(host, attachment), result.clone());
        Ok(result)
    }

    /// CHECK of every plugin in order with the cached result.
    ///
    /// # Errors
    /// The first plugin's error.
    pub fn check(&self, host: &Host, attachment: &Attachment) -> Result<()> {
        let cached = self.cached(host, attachment);
        self.plugins.iter().try_for_each(|plugin| {
            let config = self.config(host, plugin, Some(attachment), cached.as_ref());
            self.call(plugin, "CHECK", &config).of(attachment).run(host).map(drop)
        })
    }

    /// DEL of every plugin in reverse order with the cached result, which is forgotten when all went well.
    ///
    /// # Errors
    /// The first plugin's error; those before it in the chain are then not called, as in libcni.
    pub fn del(&self, host: &Host, attachment: &Attachment) -> Result<()> {
        let cached = self.cached(host, attachment).filter(|_| self.at_least(CHECK_SINCE));
        self.plugins.iter().rev().try_for_each(|plugin| {
            let config = self.config(host, plugin, Some(attachment), cached.as_ref());
            self.call(plugin, "DEL", &config).of(attachment).run(host).map(drop)
        })?;
        self.forget(host, attachment);
        Ok(())
    }

    /// GC of every plugin: all attachments but `valid` are to go. Both spellings of the list are sent.
    ///
    /// # Errors
    /// The first plugin's error.
    pub fn gc(&self, host: &Host, valid: &[&Attachment]) -> Result<()> {
        let valid: Vec<_> =
            valid.iter().map(|kept| json!({"containerID": kept.id(), "ifname": kept.ifname()})).collect();
        self.plugins.iter().try_for_each(|plugin| {
            let mut config = self.config(host, plugin, None, None);
            for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
                config[key] = json!(valid);
            }
            self.call(plugin, "GC", &config).run(host).map(drop)
        })
    }

    /// STATUS of every plugin.
    ///
    /// # Errors
    /// The first plugin's error.
    pub fn status(&self, host: &Host) -> Result<()> {
        self.plugins.iter().try_for_each(|plugin| {
            self.call(plugin, "STATUS", &self.config(host, plugin, None, None)).run(host).map(drop)
        })
    }

    /// Loses the cached result, as a runtime does whose cache was wiped.
    pub fn forget(&self, host: &Host, attachment: &Attachment) {
        self.cache().remove(&key(host, attachment));
    }

    /// Takes over a cached result, as a runtime does whose configuration was changed under its containers.
    pub fn remember(&self, host: &Host, attachment: &Attachment, result: Value) {
        self.cache().insert(key(host, attachment), result);
    }

    /// The cached result of the last ADD.
    pub fn cached(&self, host: &Host, attachment: &Attachment) -> Option<Value> {
        self.cache().get(&key(host, attachment)).cloned()
    }

    /// Where `host-local` keeps this chain's leases on `host`, unless the conflist has its own `dataDir`.
    pub fn leases(&self, host: &Host) -> PathBuf {
        host.run_dir().join("networks").join(&self.name)
    }

    /// The config of one plugin as it goes to stdin: name and version of the list, `prevResult` unless
    /// null, and as `runtimeConfig` the capability arguments that the plugin declares.
    pub fn config(
        &self,
        host: &Host,
        plugin: &Map<String, Value>,
        attachment: Option<&Attachment>,
        previous: Option<&Value>,
    ) -> Value {
        let mut config = plugin.clone();
        config.insert("name".into(), json!(self.name));
        config.insert("cniVersion".into(), json!(self.version));
        if let Some(previous) = previous.filter(|previous| !previous.is_null()) {
            config.insert("prevResult".into(), previous.clone());
        }
        let declared = config.remove("capabilities").unwrap_or_default();
        let given = attachment.map(|attachment| attachment.capabilities.clone()).unwrap_or_default();
        let runtime: Map<_, _> = given.into_iter().filter(|(key, _)| declared[key] == true).collect();
        if !runtime.is_empty() {
            config.insert("runtimeConfig".into(), Value::Object(runtime));
        }
        if let Some(Value::Object(ipam)) = config.get_mut("ipam")
            && ipam.get("type").is_some_and(|kind| kind == "host-local")
        {
            ipam.entry("dataDir").or_insert_with(|| json!(host.run_dir().join("networks")));
        }
        Value::Object(config)
    }

    fn call(&self, plugin: &Map<String, Value>, command: &str, config: &Value) -> Call {
        let kind = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
        Call::new(&self.bin_dir, kind, command, config)
    }

    fn at_least(&self, wanted: (u32, u32)) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= wanted
    }

    /// A panic in another thread leaves the map whole: every change is one call.
    fn cache(&self) -> MutexGuard<'_, HashMap<Key, Value>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(host: &Host, attachment: &Attachment) -> Key {
    (host.name().into(), attachment.id().into(), attachment.ifname().into())
}
