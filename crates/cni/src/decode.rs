//! From JSON to types, and what can be wrong on the way. Not what the JSON means: that is each type's own.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use zeugma_model::NameError;

use crate::fold::{self, Folded};
use crate::{CniCode, Code, UnknownVersion, Version, incompatible_details};

/// A configuration or result could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON at all.
    #[error("error unmarshall network config: standard input is no JSON object: {source}")]
    NotJson {
        /// Where and why.
        source: serde_json::Error,
    },
    /// JSON, but a key has the wrong type or an impossible value.
    #[error("key {key:?} cannot be read: {source}; correct it in the network configuration")]
    Key {
        /// Its path: `ipam.ranges[0][1].subnet`.
        key: String,
        /// What was expected and what is there.
        source: serde_json::Error,
    },
    /// `name` is missing, or no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// `cniVersion` of the configuration is none that exists.
    #[error("incompatible CNI versions")]
    Version(UnknownVersion),
    /// `cniVersion` of a result is none that exists.
    #[error("a result has an unknown version: {source}")]
    ResultVersion {
        /// Which.
        source: UnknownVersion,
    },
}

impl CniCode for DecodeError {
    fn code(&self) -> Code {
        match self {
            Self::NotJson { .. } | Self::Key { .. } => Code::DecodingFailure,
            Self::Name(_) => Code::InvalidNetworkConfig,
            Self::Version(_) | Self::ResultVersion { .. } => Code::IncompatibleVersion,
        }
    }

    fn details(&self) -> String {
        match self {
            Self::Version(UnknownVersion(config)) => incompatible_details(config, &Version::ALL),
            Self::NotJson { .. } | Self::Key { .. } | Self::Name(_) | Self::ResultVersion { .. } => {
                String::new()
            }
        }
    }
}

impl DecodeError {
    /// The same error when what was read stands below `parent`: `ips[0]` becomes `prevResult.ips[0]`.
    pub(crate) fn below(self, parent: &str) -> Self {
        match self {
            Self::Key { key, source } => Self::Key { key: join(parent, &key), source },
            other => other,
        }
    }
}

/// A result has no shape in the version asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// 0.1.0 and 0.2.0 cannot say anything without an address.
    #[error(
        "cannot convert: no valid IP addresses: a result of CNI {version} needs one; set cniVersion to 0.3.0 or newer, or give the network an ipam"
    )]
    NoAddress {
        /// The version asked for.
        version: Version,
    },
}

impl CniCode for EncodeError {
    fn code(&self) -> Code {
        match self {
            Self::NoAddress { .. } => Code::IncompatibleVersion,
        }
    }
}

/// Reads `value`, naming the failing key by its path below `parent`. The case of keys does not matter, the
/// documented spelling wins; null is like missing.
pub fn read<T: DeserializeOwned>(value: &Value, parent: &str) -> Result<T, DecodeError> {
    read_folded(value, parent)
}

/// [`read`] of an object.
pub fn read_object<T: DeserializeOwned>(object: &Map<String, Value>, parent: &str) -> Result<T, DecodeError> {
    read_folded(object, parent)
}

fn read_folded<'a, T: DeserializeOwned>(
    value: impl Into<Folded<'a>>,
    parent: &str,
) -> Result<T, DecodeError> {
    serde_path_to_error::deserialize(value.into()).map_err(|error| {
        let path = error.path().to_string();
        let key = if path == "." { parent.to_owned() } else { join(parent, &path) };
        DecodeError::Key { key, source: error.into_inner() }
    })
}

/// Reads the key `key` of `object`, which stands at `parent`: as [`read`] does. Null is like missing, as the
/// reference has it.
pub fn read_key<T: DeserializeOwned>(
    object: &Map<String, Value>,
    parent: &str,
    key: &str,
) -> Result<Option<T>, DecodeError> {
    fold::get(object, key).map(|value| read(value, &join(parent, key))).transpose()
}

fn join(parent: &str, key: &str) -> String {
    match (parent, key) {
        ("", key) => key.to_owned(),
        (parent, "") => parent.to_owned(),
        (parent, index) if index.starts_with('[') => format!("{parent}{index}"),
        (parent, key) => format!("{parent}.{key}"),
    }
}
