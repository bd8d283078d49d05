//! A clock that nobody can set.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The time since the machine was started, sleep included.
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
