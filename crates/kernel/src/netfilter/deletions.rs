//! When one of us last deleted elements: whoever closes an nfnetlink socket soon after waits for an RCU grace
//! period, even if it deleted nothing itself.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Twice the longest grace period that was seen here under load.
const RECENT: Duration = Duration::from_millis(50);

fn stamp() -> PathBuf {
    zeugma_journal::run_dir().join("deleted")
}

/// Notes that elements are being deleted. Without the note others wait a little: no harm.
pub(super) fn note() {
    let _ = fs::write(stamp(), b"");
}

/// Whether somebody deleted elements a moment ago.
pub(super) fn are_recent() -> bool {
    let modified = fs::metadata(stamp()).and_then(|about| about.modified());
    modified.is_ok_and(|then| SystemTime::now().duration_since(then).is_ok_and(|ago| ago < RECENT))
}
