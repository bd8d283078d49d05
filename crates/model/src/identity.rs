//! What a caller tells of a container beside its ID: the names it goes by, labels, its pod, its cgroup.
//!
//! Values only. How each caller writes them is `skel`'s; what they are good for is the resolver's.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Everything that was told; what was not is empty and not written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Names on this network beside the container's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Alias>,
    /// Labels, as given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The pod that the container belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// The container's cgroup below the cgroup file system, as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

impl Identity {
    /// Whether nothing was told.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A Kubernetes pod. Podman names its containers in the same way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its namespace; empty when not told.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its unique ID; empty when not told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// A name that a container answers to on a network: labels of letters, digits, `-` and `_` with dots between
/// them. At most 253 bytes, 63 in a label (RFC 1035, with the `_` that container names have).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Alias(String);

/// The text is no host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no alias: write letters, digits, `-`, `_` and `.`, at most 63 bytes between dots and 253 in all"
)]
pub struct AliasError(String);

impl Alias {
    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Alias {
    type Err = AliasError;
    fn from_str(text: &str) -> Result<Self, AliasError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len()) && !label.starts_with('-') && label.bytes().all(plain)
        };
        let is_name = text.len() <= 253 && text.split('.').all(is_label);
        if is_name { Ok(Self(text.into())) } else { Err(AliasError(text.into())) }
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for Alias {
    type Error = AliasError;
    fn try_from(text: String) -> Result<Self, AliasError> {
        text.parse()
    }
}

impl From<Alias> for String {
    fn from(alias: Alias) -> String {
        alias.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_host_names() {
        for good in ["web", "my_container", "web-0.nginx", "3f2a", "_sip"] {
            assert!(good.parse::<Alias>().is_ok(), "{good}");
        }
        for bad in ["", ".", "web.", "a..b", "-a", "a b", "a/b", "w\u{e4}b"] {
            assert!(bad.parse::<Alias>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(64).parse::<Alias>().is_err());
        assert!(
            ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(63)]
                .join(".")
                .parse::<Alias>()
                .is_err()
        );
    }
}
