//! What ADD returned, kept for DEL: the files of libcni's cache (`cniCacheV1`), so that a runtime finds what was attached
//! by hand, and the other way round.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeugma_journal::files;
use zeugma_model::NetworkName;

use crate::{Attached, Error};

const KIND: &str = "cniCacheV1";

/// `/var/lib/cni`, usually.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
}

/// A file of it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    kind: String,
    container_id: String,
    if_name: String,
    network_name: String,
    #[serde(default)]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default)]
    capability_args: Option<Map<String, Value>>,
    result: Value,
}

impl Cache {
    /// The cache below `directory`.
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.join("results") }
    }

    fn file(&self, network: &NetworkName, attached: &Attached) -> PathBuf {
        self.directory.join(format!("{network}-{}-{}", attached.container, attached.ifname))
    }

    /// Keeps what ADD returned.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, network: &NetworkName, attached: &Attached, result: &Value) -> Result<(), Error> {
        let entry = Entry {
            kind: KIND.into(),
            container_id: attached.container.to_string(),
            if_name: attached.ifname.to_string(),
            network_name: network.to_string(),
            cni_args: Some(attached.args.clone()),
            capability_args: Some(attached.capabilities.clone()),
            result: result.clone(),
        };
        let file = self.file(network, attached);
        let text = serde_json::to_vec(&entry).map_err(|source| Error::File {
            doing: "write",
            path: file.clone(),
            source: source.into(),
        })?;
        Ok(files::replace(&file, &text)?)
    }

    /// What ADD returned, and with which arguments it was called, which go into `attached`; none when nobody knows.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn recall(&self, network: &NetworkName, attached: &mut Attached) -> Result<Option<Value>, Error> {
        let text = files::read(&self.file(network, attached))?;
        let entry = text.and_then(|text| serde_json::from_slice::<Entry>(&text).ok());
        let Some(entry) = entry.filter(|entry| entry.kind == KIND) else { return Ok(None) };
        attached.args = entry.cni_args.unwrap_or_default();
        attached.capabilities = entry.capability_args.unwrap_or_default();
        Ok(Some(entry.result))
    }

    /// Forgets it after DEL.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn forget(&self, network: &NetworkName, attached: &Attached) -> Result<(), Error> {
        Ok(files::remove(&self.file(network, attached))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_kept_is_recalled_with_its_arguments_until_it_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let (cache, network) = (Cache::at(root.path()), "lab".parse().unwrap());
        let mut attached = Attached {
            container: "c0".parse().unwrap(),
            netns: None,
            ifname: "eth1".parse().unwrap(),
            args: vec![("K8S_POD_NAME".into(), "web".into())],
            capabilities: Map::new(),
            labels: Default::default(),
        };
        cache.keep(&network, &attached, &json!({"ips": []})).unwrap();
        assert!(root.path().join("results/lab-c0-eth1").exists());
        attached.args.clear();
        assert_eq!(cache.recall(&network, &mut attached).unwrap(), Some(json!({"ips": []})));
        assert_eq!(attached.args[0].1, "web");
        cache.forget(&network, &attached).unwrap();
        assert_eq!(cache.recall(&network, &mut attached).unwrap(), None);
    }
}
