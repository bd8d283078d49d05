//! When this boot began, to tell leases of an earlier one.

use std::time::{Duration, SystemTime};

/// How much older than the boot a lease must be. The clock may have been set forward since the kernel started,
/// which makes the computed start later than it was; handing an address out twice is worse than keeping one
/// until the runtime's DEL or GC.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// Files changed before this are of an earlier boot; none when the kernel does not say.
pub(super) fn earlier_boot_ended() -> Option<SystemTime> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    SystemTime::now().checked_sub(Duration::try_from_secs_f64(seconds).ok()? + CLOCK_STEP)
}
