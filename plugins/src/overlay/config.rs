//! What `overlay` can be told. All else is in the state that the agent wrote down.

use serde::Deserialize;
use serde_json::Value;
use zeugma_model::OverlayState;

/// The keys as they stand in the configuration.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Raw {
    /// The overlay, where the list has another name. A host has one list of an overlay: leases are the list's.
    /// Default: the list's name.
    pub(super) network: Option<String>,
    /// Routes of the container beside those to the overlay and the default route, as `host-local` takes them.
    /// Default: none.
    pub(super) routes: Option<Vec<Value>>,
    /// Folder of the leases, as `host-local` takes it. Default `/var/lib/cni/networks`.
    pub(super) data_dir: Option<String>,
}

/// The bridge, and the overlay that it is part of; none: nothing is known of it (any more).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(super) bridge: crate::bridge::config::Config,
    pub(super) state: Option<OverlayState>,
}
