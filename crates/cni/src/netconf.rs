//! The network configuration on standard input, without the keys of single plugins.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use zeugma_model::{ContainerId, IfName, NameError, NetworkName};

use crate::decode::{read_key, read_object};
use crate::fold;
use crate::{CniResult, DecodeError, Dns, UnknownVersion, Version};

/// A network configuration as every plugin sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct NetConf {
    /// `cniVersion`; missing means 0.1.0.
    pub cni_version: Version,
    /// `name`.
    pub name: NetworkName,
    /// `type`.
    pub plugin_type: String,
    /// `ipam`, as given; none when there is none or it has no `type`.
    pub ipam: Option<Map<String, Value>>,
    /// `dns`.
    pub dns: Dns,
    /// `runtimeConfig`, as given: the capability arguments.
    pub runtime_config: Map<String, Value>,
    /// `args.cni`, as given.
    pub args_cni: Map<String, Value>,
    /// `args["org.apache.mesos"].network_info`, as given: what a Mesos agent tells of the container.
    pub args_mesos: Map<String, Value>,
    /// `prevResult`, read in whichever version it is.
    pub prev_result: Option<CniResult>,
    /// GC: the attachments that exist; none when neither key is there.
    pub valid_attachments: Option<Vec<(ContainerId, IfName)>>,
    /// The whole configuration as it came, for the plugin's own keys and for delegates.
    pub raw: Map<String, Value>,
}

/// An entry of `cni.dev/valid-attachments`.
#[derive(Deserialize)]
struct Attachment {
    #[serde(rename = "containerID")]
    container: ContainerId,
    ifname: IfName,
}

impl NetConf {
    /// Reads a configuration. Unknown keys are tolerated and stay in `raw`; null is like missing.
    pub fn parse(stdin: &[u8]) -> Result<Self, DecodeError> {
        let mut conf = Self::parse_without_result(stdin)?;
        conf.prev_result = prev_result(&conf.raw, conf.cni_version)?;
        Ok(conf)
    }

    /// Reads a configuration for DEL, which must not fail because of a `prevResult` that nobody can read:
    /// such a one counts as missing.
    pub fn parse_for_del(stdin: &[u8]) -> Result<Self, DecodeError> {
        let mut conf = Self::parse_without_result(stdin)?;
        conf.prev_result = prev_result(&conf.raw, conf.cni_version).unwrap_or_default();
        Ok(conf)
    }

    /// The plugin's own keys, out of the whole configuration. Their case does not matter; the documented
    /// spelling wins.
    pub fn plugin_config<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        read_object(&self.raw, "")
    }

    /// The `type` in `ipam`; none: the network has no IPAM.
    pub fn ipam_type(&self) -> Option<&str> {
        fold::get(self.ipam.as_ref()?, "type")?.as_str()
    }

    /// The capability argument `key`, such as `portMappings`, out of `runtimeConfig`.
    pub fn capability<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, DecodeError> {
        read_key(&self.runtime_config, "runtimeConfig", key)
    }

    /// The argument `key` out of `args.cni`.
    pub fn arg_cni<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, DecodeError> {
        read_key(&self.args_cni, "args.cni", key)
    }

    /// The argument `key` out of `args["org.apache.mesos"].network_info`.
    pub fn arg_mesos<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, DecodeError> {
        read_key(&self.args_mesos, MESOS_INFO, key)
    }

    /// Name and version come first: they decide which of several mistakes is reported.
    fn parse_without_result(stdin: &[u8]) -> Result<Self, DecodeError> {
        let raw: Map<String, Value> =
            serde_json::from_slice(stdin).map_err(|source| DecodeError::NotJson { source })?;
        let name: String = read_key(&raw, "", "name")?.ok_or(NameError::NoNetworkName)?;
        let name = name.parse()?;
        let cni_version = config_version(&raw)?;
        let args: Map<String, Value> = read_key(&raw, "", "args")?.unwrap_or_default();
        Ok(Self {
            cni_version,
            name,
            plugin_type: read_key(&raw, "", "type")?.unwrap_or_default(),
            ipam: ipam(&raw)?,
            dns: read_key(&raw, "", "dns")?.unwrap_or_default(),
            runtime_config: read_key(&raw, "", "runtimeConfig")?.unwrap_or_default(),
            args_cni: read_key(&args, "args", "cni")?.unwrap_or_default(),
            args_mesos: args_mesos(&args)?,
            prev_result: None,
            valid_attachments: valid_attachments(&raw)?,
            raw,
        })
    }
}

fn config_version(raw: &Map<String, Value>) -> Result<Version, DecodeError> {
    let text: String = read_key(raw, "", "cniVersion")?.unwrap_or_default();
    match text.as_str() {
        "" => Ok(Version::V0_1_0),
        known => known.parse().map_err(|unknown: UnknownVersion| DecodeError::Version(unknown)),
    }
}

/// Where a Mesos agent's words stand.
const MESOS: &str = "org.apache.mesos";
const MESOS_INFO: &str = r#"args["org.apache.mesos"].network_info"#;

fn args_mesos(args: &Map<String, Value>) -> Result<Map<String, Value>, DecodeError> {
    let mesos: Map<String, Value> = read_key(args, "args", MESOS)?.unwrap_or_default();
    Ok(read_key(&mesos, r#"args["org.apache.mesos"]"#, "network_info")?.unwrap_or_default())
}

fn ipam(raw: &Map<String, Value>) -> Result<Option<Map<String, Value>>, DecodeError> {
    let Some(ipam) = read_key::<Map<String, Value>>(raw, "", "ipam")? else {
        return Ok(None);
    };
    let plugin: Option<String> = read_key(&ipam, "ipam", "type")?;
    Ok(plugin.is_some_and(|plugin| !plugin.is_empty()).then_some(ipam))
}

fn prev_result(raw: &Map<String, Value>, version: Version) -> Result<Option<CniResult>, DecodeError> {
    match fold::get(raw, "prevResult") {
        None => Ok(None),
        Some(value) => {
            CniResult::from_json(value, version).map(Some).map_err(|error| error.below("prevResult"))
        }
    }
}

/// The specification once had the key without `valid-`, and libcni writes both. It writes null for an empty
/// list: the key is there, and no attachment is valid.
fn valid_attachments(raw: &Map<String, Value>) -> Result<Option<Vec<(ContainerId, IfName)>>, DecodeError> {
    let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
    let Some(key) = keys.into_iter().find(|key| raw.contains_key(*key)) else {
        return Ok(None);
    };
    let listed: Vec<Attachment> = read_key(raw, "", key)?.unwrap_or_default();
    Ok(Some(listed.into_iter().map(|entry| (entry.container, entry.ifname)).collect()))
}
