//! What the loop has counted, for metrics and status.

use std::time::{Duration, SystemTime};

/// The state of things after the loop's last turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    /// The journal was read and what it asks for is served.
    pub(crate) ready: bool,
    /// Changes of names since the agent began.
    pub(crate) generation: u64,
    pub(crate) attachments: usize,
    /// Networks that have names.
    pub(crate) networks: usize,
    /// Names and aliases of all members.
    pub(crate) names: usize,
    pub(crate) listeners_open: usize,
    pub(crate) listeners_failed: usize,
    /// Zones of the operator's that are served as they were, because their files cannot be read.
    pub(crate) zones_failed: usize,
    /// When the whole journal was last compared with what is served.
    pub(crate) last_diff: Option<SystemTime>,
    /// How long that took.
    pub(crate) last_diff_took: Duration,
    /// How often that found what no message had told.
    pub(crate) missed: u64,
}
