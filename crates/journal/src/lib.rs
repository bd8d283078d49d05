//! What this host has attached: one small file per plugin call, on tmpfs, stamped with the boot; and which
//! ports are claimed, what the agent wrote of overlays, and the locks that keep plugins out of one another's way.
//!
//! No kernel access: it remembers, it does not observe.

mod claims;
mod error;
pub mod files;
mod fuzz;
mod host;
mod lock;
mod overlays;
mod reader;
mod record;
mod store;
mod sweep;

pub use claims::{Claim, Claims};
pub use error::Error;
pub use fuzz::fuzz_journal;
pub use host::{BridgeMade, Bucket, GatewayMade, HostSide, Limits, PortSet, VlanSet};
pub use lock::Lock;
pub use overlays::{Each, OverlayStates, fuzz_overlay_state};
pub use reader::Reader;
pub use record::{Device, LinkBackup, Listen, NetnsRef, Phase, Record, Resolver, SourceRule};
pub use store::{Entry, Journal, OnOverlays, boot_id};
pub use sweep::Alone;

use std::path::PathBuf;

/// Where zeugma keeps what does not outlive a boot: `$ZEUGMA_RUN_DIR`, else `/run/zeugma`.
pub fn run_dir() -> PathBuf {
    std::env::var_os("ZEUGMA_RUN_DIR")
        .filter(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from("/run/zeugma"), PathBuf::from)
}

/// Where zeugma keeps what outlives a boot: `$ZEUGMA_STATE_DIR`, else `/var/lib/zeugma`.
pub fn state_dir() -> PathBuf {
    std::env::var_os("ZEUGMA_STATE_DIR")
        .filter(|value| !value.is_empty())
        .map_or_else(|| PathBuf::from("/var/lib/zeugma"), PathBuf::from)
}
