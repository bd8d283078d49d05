//! The networks of a host as runtimes know them: the directory of configuration lists, and what a runtime does with one.
//!
//! What a list of ours says is decided in `plan::network`; what a plugin does is the plugin's.

mod cache;
mod chain;
mod directory;
mod error;
mod list;

pub use cache::Cache;
pub use chain::{Attached, Chain};
pub use directory::{Directory, Write};
pub use error::Error;
pub use list::List;
