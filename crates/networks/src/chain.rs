//! What a runtime does with a list: the specification's section 3 and 4, as libcni does it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use zeugma_model::{ContainerId, IfName, NetworkName};
use zeugma_protocol::Version;
use zeugma_skel::Command;
use zeugma_skel::delegate::{self, Caller};

use crate::{Error, List};

/// A list, and where its plugins are.
#[derive(Debug, Clone)]
pub struct Chain {
    name: NetworkName,
    version: Version,
    plugins: Vec<Map<String, Value>>,
    bin_dir: PathBuf,
}

/// A container's interface on the network, as a runtime asks for it.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The container.
    pub container: ContainerId,
    /// Its namespace; DEL goes without.
    pub netns: Option<PathBuf>,
    /// The interface in it.
    pub ifname: IfName,
    /// `CNI_ARGS`.
    pub args: Vec<(String, String)>,
    /// Capability arguments: each plugin gets those that it declares.
    pub capabilities: Map<String, Value>,
    /// The container's labels, which plugins get as the conventions have it: `args.cni.labels`.
    pub labels: BTreeMap<String, String>,
}

/// One call.
struct Call<'a> {
    version: Version,
    bin_dir: &'a Path,
    attached: Option<&'a Attached>,
}

impl Caller for Call<'_> {
    fn version(&self) -> Version {
        self.version
    }

    fn variables(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![("CNI_PATH", self.bin_dir.into())];
        if let Some(attached) = self.attached {
            let args: Vec<String> =
                attached.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
            variables.push(("CNI_CONTAINERID", attached.container.as_str().into()));
            variables.push(("CNI_IFNAME", attached.ifname.as_str().into()));
            variables.push(("CNI_NETNS", attached.netns.clone().unwrap_or_default().into()));
            variables.push(("CNI_ARGS", args.join(";").into()));
        }
        variables
    }
}

impl Chain {
    /// The plugins of a list, to be found in `bin_dir`.
    ///
    /// # Errors
    /// When the list has none, or no version that there is.
    pub fn new(list: &List, bin_dir: &Path) -> Result<Self, Error> {
        let version = list.value.get("cniVersion").and_then(Value::as_str).unwrap_or("0.1.0");
        let plugins = list.plugins().iter().map(|plugin| plugin.as_object().cloned());
        let plugins: Option<Vec<_>> = plugins.collect();
        Ok(Self {
            name: list.name.clone(),
            version: version
                .parse()
                .map_err(|source| Error::Version { network: list.name.clone(), source })?,
            plugins: plugins
                .filter(|plugins| !plugins.is_empty())
                .ok_or_else(|| Error::NoPlugins(list.name.clone()))?,
            bin_dir: bin_dir.into(),
        })
    }

    /// ADD of every plugin, each with the result of the one before: the last one's. When one fails, what was added is
    /// taken back.
    ///
    /// # Errors
    /// That of the plugin that failed.
    pub fn add(&self, attached: &Attached) -> Result<Value, Error> {
        let mut result = None;
        for plugin in &self.plugins {
            match self.call(Command::Add, plugin, Some(attached), result.as_ref()) {
                Ok(next) => result = next,
                Err(error) => {
                    // The error that counts is that of ADD; DEL says what it has to say on standard error.
                    let _ = self.del(attached, result.as_ref());
                    return Err(error);
                }
            }
        }
        Ok(result.unwrap_or_default())
    }

    /// DEL of every plugin, the last one first, with what ADD returned. Goes on when one fails.
    ///
    /// # Errors
    /// The first plugin's.
    pub fn del(&self, attached: &Attached, result: Option<&Value>) -> Result<(), Error> {
        let calls = self.plugins.iter().rev();
        let outcomes = calls.map(|plugin| self.call(Command::Del, plugin, Some(attached), result));
        outcomes.collect::<Vec<_>>().into_iter().try_for_each(|outcome| outcome.map(drop))
    }

    /// GC of every plugin for a network that nobody is on any more. Returns what did not work.
    pub fn clear(&self) -> Vec<Error> {
        // The verb came with this version, whichever the list has.
        let newest = Self { version: Version::V1_1_0, ..self.clone() };
        let outcomes = self.plugins.iter().map(|plugin| {
            let mut plugin = plugin.clone();
            plugin.insert("cni.dev/valid-attachments".into(), json!([]));
            newest.call(Command::Gc, &plugin, None, None)
        });
        outcomes.filter_map(Result::err).collect()
    }

    fn call(
        &self,
        command: Command,
        plugin: &Map<String, Value>,
        attached: Option<&Attached>,
        previous: Option<&Value>,
    ) -> Result<Option<Value>, Error> {
        let failed = |source| Error::Plugin {
            network: self.name.clone(),
            verb: command.as_str(),
            source: Box::new(source),
        };
        let kind = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
        let binary = delegate::find(kind, std::slice::from_ref(&self.bin_dir)).map_err(failed)?;
        let config = self.config(plugin, attached, previous).to_string();
        let call = Call { version: self.version, bin_dir: &self.bin_dir, attached };
        let result = delegate::exec(&binary, command, &call, config.as_bytes()).map_err(failed)?;
        let network = || self.name.clone();
        let json = result.map(|result| result.to_json(self.version));
        json.transpose().map_err(|source| Error::Result { network: network(), source })
    }

    /// The plugin's configuration as it goes to its standard input.
    fn config(
        &self,
        plugin: &Map<String, Value>,
        attached: Option<&Attached>,
        previous: Option<&Value>,
    ) -> Value {
        let mut config = plugin.clone();
        config.insert("name".into(), json!(self.name));
        config.insert("cniVersion".into(), json!(self.version.as_str()));
        if let Some(previous) = previous {
            config.insert("prevResult".into(), previous.clone());
        }
        let declared = config.remove("capabilities").unwrap_or_default();
        let given = attached.map(|attached| attached.capabilities.clone()).unwrap_or_default();
        let is_declared = |key: &String| declared.get(key).and_then(Value::as_bool) == Some(true);
        let taken: Map<String, Value> = given.into_iter().filter(|(key, _)| is_declared(key)).collect();
        if !taken.is_empty() {
            config.insert("runtimeConfig".into(), Value::Object(taken));
        }
        if let Some(attached) = attached.filter(|attached| !attached.labels.is_empty()) {
            let label = |(key, value)| json!({"key": key, "value": value});
            let labels: Vec<Value> = attached.labels.iter().map(label).collect();
            object_in(object_in(&mut config, "args"), "cni").insert("labels".into(), json!(labels));
        }
        Value::Object(config)
    }
}

/// The object with that key, made where there is none.
fn object_in<'a>(parent: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = parent.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was made an object")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A plugin that notes how it was called, and answers with its own name in `interfaces`.
    const NOTER: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
[ -e "fail-$CNI_COMMAND-${0##*/}" ] && { echo '{"code": 7, "msg": "told to"}'; exit 1; }
echo "$CNI_COMMAND ${0##*/} $CNI_CONTAINERID $CNI_ARGS $(cat)" >> calls
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion": "1.0.0", "interfaces": [{"name": "'${0##*/}'"}]}'
exit 0
"#;

    struct Node(tempfile::TempDir);

    impl Node {
        fn new() -> Self {
            let node = Self(tempfile::tempdir().unwrap());
            for plugin in ["one", "two"] {
                let path = node.0.path().join(plugin);
                fs::write(&path, NOTER).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            node
        }

        fn chain(&self) -> Chain {
            let plugins = json!([{"type": "one", "capabilities": {"ips": true}}, {"type": "two"}]);
            let list = json!({"cniVersion": "1.0.0", "name": "lab", "plugins": plugins});
            Chain::new(&List::parse(Path::new("/x"), list.to_string().as_bytes()).unwrap(), self.0.path())
                .unwrap()
        }

        fn calls(&self) -> Vec<String> {
            let text = fs::read_to_string(self.0.path().join("calls")).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        }
    }

    fn attached() -> Attached {
        Attached {
            container: "c0".parse().unwrap(),
            netns: Some("/run/netns/c0".into()),
            ifname: "eth1".parse().unwrap(),
            args: vec![("IgnoreUnknown".into(), "1".into())],
            capabilities: json!({"ips": ["10.1.0.7"], "mac": "x"}).as_object().unwrap().clone(),
            labels: [("app".into(), "web".into())].into(),
        }
    }

    #[test]
    fn results_are_handed_on_and_arguments_go_where_they_are_declared() {
        let node = Node::new();
        let result = node.chain().add(&attached()).unwrap();
        assert_eq!(result["interfaces"][0]["name"], "two");
        let calls = node.calls();
        assert!(calls[0].starts_with("ADD one c0 IgnoreUnknown=1 "), "{calls:?}");
        assert!(calls[0].contains(r#""runtimeConfig":{"ips":["10.1.0.7"]}"#), "{calls:?}");
        assert!(calls[0].contains(r#""args":{"cni":{"labels":[{"key":"app","value":"web"}]}}"#), "{calls:?}");
        assert!(!calls[1].contains("runtimeConfig") && calls[1].contains("prevResult"), "{calls:?}");
        assert!(calls[1].contains(r#""name":"one""#), "{calls:?}");
    }

    #[test]
    fn an_add_that_fails_is_taken_back_in_reverse() {
        let node = Node::new();
        fs::write(node.0.path().join("fail-ADD-two"), "").unwrap();
        let error = node.chain().add(&attached()).unwrap_err().to_string();
        assert!(error.contains("ADD failed") && error.contains("told to"), "{error}");
        let verbs: Vec<String> = node.calls().iter().map(|call| call[..7].to_owned()).collect();
        assert_eq!(verbs, ["ADD one", "DEL two", "DEL one"]);
    }

    #[test]
    fn del_goes_on_and_gc_leaves_nobody() {
        let node = Node::new();
        fs::write(node.0.path().join("fail-DEL-two"), "").unwrap();
        assert!(node.chain().del(&attached(), None).is_err());
        assert!(node.calls()[0].starts_with("DEL one"));
        assert!(node.chain().clear().is_empty());
        let call = node.calls()[1].clone();
        assert!(call.contains(r#""cni.dev/valid-attachments":[]"#) && call.contains("1.1.0"), "{call}");
    }
}
