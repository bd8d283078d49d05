//! What callers tell of a container, each in its own dialect: Kubernetes and Podman in `CNI_ARGS`, Podman and
//! nerdctl by the capability `aliases`, Mesos in `args`, the conventions in `args.cni.labels`.
//!
//! Which of it a plugin needs to attach the container is the plugin's; this is what it keeps besides.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use zeugma_model::{Alias, Identity, Pod};
use zeugma_protocol::{DecodeError, NetConf, read, read_key};

use crate::{CniArgs, Request};

/// A label as the conventions and Mesos write it.
#[derive(Deserialize)]
struct Label {
    key: String,
    #[serde(default)]
    value: String,
}

/// Mesos has the list of labels in an object.
#[derive(Default, Deserialize)]
#[serde(default)]
struct MesosLabels {
    labels: Vec<Label>,
}

impl Request {
    /// What the caller tells of the container.
    ///
    /// # Errors
    /// The key that has another shape than any caller's.
    pub fn identity(&self) -> Result<Identity, DecodeError> {
        Ok(Identity {
            aliases: aliases(&self.conf)?,
            labels: labels(&self.conf)?,
            pod: pod(&self.args),
            cgroup: self.conf.capability("cgroupPath")?.filter(|path: &String| !path.is_empty()),
        })
    }
}

/// A list, as the conventions have it, or an object of lists by network, as Podman and CRI-O do: of those only
/// this network's counts.
fn aliases(conf: &NetConf) -> Result<Vec<Alias>, DecodeError> {
    const PLACE: &str = "runtimeConfig.aliases";
    let mut aliases: Vec<Alias> = match conf.capability::<Value>("aliases")? {
        None => Vec::new(),
        Some(Value::Object(by_network)) => {
            read_key(&by_network, PLACE, conf.name.as_str())?.unwrap_or_default()
        }
        Some(list) => read(&list, PLACE)?,
    };
    aliases.dedup();
    Ok(aliases)
}

/// Where both tell, the conventions' words count.
fn labels(conf: &NetConf) -> Result<BTreeMap<String, String>, DecodeError> {
    let mesos = conf.arg_mesos::<MesosLabels>("labels")?.unwrap_or_default().labels;
    let conventional: Vec<Label> = conf.arg_cni("labels")?.unwrap_or_default();
    Ok(mesos.into_iter().chain(conventional).map(|label| (label.key, label.value)).collect())
}

fn pod(args: &CniArgs) -> Option<Pod> {
    let text = |key| args.get(key).unwrap_or_default().to_owned();
    let name = args.get("K8S_POD_NAME").filter(|name| !name.is_empty())?;
    Some(Pod { namespace: text("K8S_POD_NAMESPACE"), name: name.into(), uid: text("K8S_POD_UID") })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conf(keys: Value) -> NetConf {
        let mut conf = json!({ "name": "blue", "type": "bridge" });
        conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        NetConf::parse(conf.to_string().as_bytes()).unwrap()
    }

    fn told(aliases: Value) -> Result<Vec<String>, String> {
        let aliases = super::aliases(&conf(json!({ "runtimeConfig": { "aliases": aliases } })));
        aliases.map(|names| names.into_iter().map(String::from).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn aliases_are_a_list_or_one_for_each_network() {
        let names = Ok(vec!["web".to_owned(), "db_1".to_owned()]);
        assert_eq!(told(json!(["web", "db_1"])), names);
        assert_eq!(told(json!({ "red": ["x"], "blue": ["web", "db_1"], "Blue": ["y"] })), names);
        for none in [json!({ "red": ["x"] }), json!({ "blue": null }), json!({}), json!([]), json!(null)] {
            assert_eq!(told(none.clone()), Ok(vec![]), "{none}");
        }
    }

    #[test]
    fn wrong_aliases_are_named() {
        for (wrong, place) in [
            (json!("web"), "runtimeConfig.aliases"),
            (json!([1]), "runtimeConfig.aliases[0]"),
            (json!(["a b"]), "runtimeConfig.aliases[0]"),
            (json!({ "blue": ["ok", ""] }), "runtimeConfig.aliases.blue[1]"),
        ] {
            let error = told(wrong).unwrap_err();
            assert!(error.contains(&format!("{place:?}")), "{error}");
        }
    }

    #[test]
    fn labels_of_mesos_and_of_the_conventions_add_up() {
        let mesos = json!({ "labels": { "labels": [{ "key": "app", "value": "m" }, { "key": "tier" }] } });
        let labels = labels(&conf(json!({ "args": {
            "org.apache.mesos": { "network_info": mesos },
            "cni": { "labels": [{ "key": "app", "value": "c" }] },
        } })));
        let expected = [("app", "c"), ("tier", "")].map(|(key, value)| (key.into(), value.into()));
        assert_eq!(labels.unwrap(), BTreeMap::from(expected));
    }

    #[test]
    fn a_pod_has_a_name() {
        let pod = |text| pod(&CniArgs::parse(text).unwrap());
        assert_eq!(pod("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME="), None);
        let web = Pod { namespace: "default".into(), name: "web-0".into(), uid: "1".into() };
        assert_eq!(pod("K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=1"), Some(web));
    }
}
