//! Why the host could not be compared with the journal.

/// A repair that did not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] zeugma_journal::Error),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] zeugma_kernel::Error),
    /// No thread was to be had.
    #[error("cannot start a thread for repairs: {0}")]
    Thread(std::io::Error),
}
