//! Clocks that nobody can set.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The time since the machine was started, sleep included.
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The processor time of the calling thread so far.
pub fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Whether somebody keeps the machine's clock right (adjtimex(2)): an NTP client, or the hypervisor.
pub fn is_synchronised() -> bool {
    crate::sys::is_clock_synchronised()
}
