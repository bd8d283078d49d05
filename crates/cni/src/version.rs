//! The versions of the specification that exist.

use std::fmt;
use std::str::FromStr;

/// A version of the CNI specification. They are ordered by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.1.0: results have `ip4` and `ip6`.
    V0_1_0,
    /// 0.2.0: VERSION.
    V0_2_0,
    /// 0.3.0: results have `interfaces` and `ips`.
    V0_3_0,
    /// 0.3.1: lists of plugins.
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: no single configurations, no `ips[].version`.
    V1_0_0,
    /// 1.1.0: GC and STATUS; MTU in interfaces, more in routes.
    V1_1_0,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest.
    pub const NEWEST: Self = Self::V1_1_0;

    /// `oldest` and everything after it: what a plugin that begins there serves.
    pub fn since(oldest: Self) -> &'static [Self] {
        let all: &'static [Self] = &Self::ALL;
        all.get(oldest as usize..).unwrap_or_default()
    }

    /// The text in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// No such version of the specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no CNI version {0:?}: there are 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0")]
pub struct UnknownVersion(pub String);

/// What goes into `details` when a plugin does not serve the version of a configuration.
pub fn incompatible_details(config: &str, supported: &[Version]) -> String {
    let supported: Vec<String> = supported.iter().map(|version| format!("{:?}", version.as_str())).collect();
    format!("config is {config:?}, plugin supports [{}]", supported.join(" "))
}

/// The answer to VERSION: echoes the version on standard input when there is one, else says the newest.
pub fn version_answer(stdin: &[u8], supported: &[Version]) -> serde_json::Value {
    let asked = serde_json::from_slice::<serde_json::Value>(stdin).ok();
    let asked = asked.as_ref().and_then(|config| config.get("cniVersion")?.as_str());
    let newest = supported.last().copied().unwrap_or(Version::NEWEST);
    let supported: Vec<&str> = supported.iter().map(|version| version.as_str()).collect();
    serde_json::json!({
        "cniVersion": asked.filter(|text| !text.is_empty()).unwrap_or(newest.as_str()),
        "supportedVersions": supported,
    })
}

impl FromStr for Version {
    type Err = UnknownVersion;
    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| UnknownVersion(text.into()))
    }
}
