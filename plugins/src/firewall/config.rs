//! What `firewall` can be told.

use serde::Deserialize;
use zeugma_protocol::NetConf;

use super::Error;

/// The keys as they stand in the configuration; defaults are the reference's.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// Empty: our nftables table, and firewalld too when it runs. `nftables` or `iptables`: our table alone;
    /// iptables is never called. `firewalld`: firewalld too, and error 11 when it does not answer. Default:
    /// empty.
    backend: String,
    /// Accepted and without effect: [our table](../reference/nftables.md) has a chain `admin`. Default:
    /// none.
    iptables_admin_chain_name: Option<String>,
    /// The zone that the container's addresses are put into. Default `trusted`.
    firewalld_zone: String,
    /// Who enters the bridge, see below. Default `open`.
    ingress_policy: String,
}

/// Who lets traffic in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backend {
    /// firewalld when it runs, else our table.
    Auto,
    /// Our table.
    Nftables,
    /// firewalld, and an error when it does not run.
    Firewalld,
}

/// Who may reach a container from another bridge, or from its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ingress {
    /// Everybody.
    Open,
    /// Its own bridge, and no other that has a policy.
    SameBridge,
    /// Not even its own bridge.
    Isolated,
}

impl Ingress {
    /// As the configuration has it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::SameBridge => "same-bridge",
            Self::Isolated => "isolated",
        }
    }
}

/// What to let in, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) backend: Backend,
    pub(super) zone: String,
    pub(super) ingress: Ingress,
}

impl Config {
    pub(super) fn of(conf: &NetConf) -> Result<Self, Error> {
        let raw: Raw = conf.plugin_config()?;
        Ok(Self {
            backend: match raw.backend.as_str() {
                "" => Backend::Auto,
                "iptables" | "nftables" => Backend::Nftables,
                "firewalld" => Backend::Firewalld,
                other => return Err(Error::Backend(other.into())),
            },
            zone: if raw.firewalld_zone.is_empty() { "trusted".into() } else { raw.firewalld_zone },
            ingress: match raw.ingress_policy.as_str() {
                "" | "open" => Ingress::Open,
                "same-bridge" => Ingress::SameBridge,
                "isolated" => Ingress::Isolated,
                other => return Err(Error::Policy(other.into())),
            },
        })
    }
}
