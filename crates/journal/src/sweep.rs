//! The lock between those who attach and detach, who share it, and those who compare the whole host with the whole
//! journal: GC's sweep and repairs, alone.
//!
//! Who wants it alone closes a gate first, so that a stream of ADDs cannot keep it out for good.

use std::time::Duration;

use crate::{Error, Lock};

const SWEEP: &str = "sweep";
const GATE: &str = "sweep.gate";

/// Everybody else is out as long as it lives.
#[derive(Debug)]
pub struct Alone {
    _sweep: Lock,
    _gate: Lock,
}

impl Lock {
    /// Held from a record that is written to the last change that it stands for, and from the first change that takes
    /// it back to the record that is removed.
    ///
    /// # Errors
    /// [`Error::Busy`] when somebody has it alone for ten seconds.
    pub fn sharing() -> Result<Self, Error> {
        // Let go at once: the gate keeps nobody out who is in already.
        let _gate = Self::shared(GATE)?;
        Self::shared(SWEEP)
    }
}

impl Alone {
    /// Nobody attaches or detaches from here on. Waits no longer than this for those who are at it: nobody else
    /// gets in meanwhile.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub fn within(patience: Duration) -> Result<Self, Error> {
        let gate = Lock::exclusive_within(GATE, patience)?;
        Ok(Self { _sweep: Lock::exclusive_within(SWEEP, patience)?, _gate: gate })
    }
}
