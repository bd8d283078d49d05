//! How a command ends that made a change of which something does not work: said on standard error, and by the exit
//! status.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// The change was made, and something of it does not work.
const WITH_PROBLEMS: u8 = 3;

/// What statuses say; of some commands they say more.
pub(crate) const STATUSES: &str = "Exit status: 0 done, 1 failed, 2 a flag is wrong, 3 the change was made and something of it does not work, \
     which standard error says.";

/// Of this process: a command tells of problems wherever it comes upon them, and goes on.
static HAS_PROBLEMS: AtomicBool = AtomicBool::new(false);

/// Says what does not work of what was written.
pub(crate) fn problem(line: impl Display) {
    eprintln!("zeugma: {line}");
    HAS_PROBLEMS.store(true, Ordering::Relaxed);
}

/// The status to exit with: a failure is worse than a problem.
pub(crate) fn status(code: ExitCode) -> ExitCode {
    match HAS_PROBLEMS.load(Ordering::Relaxed) && code == ExitCode::SUCCESS {
        true => ExitCode::from(WITH_PROBLEMS),
        false => code,
    }
}
