//! The catalogue: networks, services, endpoints, nodes and address blocks that a host or a cluster shares.
//!
//! A [`Store`] holds named bytes with revisions, and can list, watch, write in transactions, and let keys vanish with
//! a lease. There are two: [`Embedded`], a file of one machine, and, with the feature `etcd`, `etcd::Etcd`.
//! A [`Table`] puts types on it, a [`Follower`] tells what changes, a [`Mirror`] keeps all of it in memory.
//!
//! [`Memory`] is what a process that starts while the store is away goes by.
//!
//! What is not here: the kernel, and the journal,
//! which says what this host has attached. The plugins never need the catalogue.
//!
//! ```no_run
//! use std::sync::Arc;
//! use zeugma_catalogue::{Embedded, Kind, Outcome, Stored, Table, Transaction};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Node { address: String }
//! impl Stored for Node { const KIND: Kind = Kind::Node; }
//!
//! # async fn example() -> Result<(), zeugma_catalogue::Error> {
//! let nodes = Table::<Node>::new(Arc::new(Embedded::open("/var/lib/zeugma/catalogue.redb").await?));
//! let new = Transaction::new().expect_absent(Table::<Node>::key("a")?);
//! let new = Table::put(new, "a", &Node { address: "192.0.2.1".into() }, None)?;
//! match nodes.store().commit(new).await? {
//!     Outcome::Committed(revision) => println!("written at {revision}"),
//!     Outcome::Conflict { key, .. } => println!("there is {key} already"),
//! }
//! let mut mirror = nodes.mirror();
//! mirror.ready().await;
//! println!("{} nodes", mirror.view().rows.len());
//! # Ok(()) }
//! ```

mod domain;
mod embedded;
mod error;
#[cfg(feature = "etcd")]
pub mod etcd;
mod follow;
mod fuzz;
mod health;
mod identity;
mod item;
mod key;
mod lease;
mod memory;
mod mirror;
mod store;
mod table;
mod told;
mod tolerant;
mod transaction;

pub use domain::{LastNetwork, TakenVip};
pub use embedded::Embedded;
pub use error::{Cause, Error};
pub use follow::{Difference, Follower, Hearsay};
pub use fuzz::fuzz_rows;
pub use health::Health;
pub use identity::{identified, identity};
pub use item::{Change, Item, LeaseId, Listing, Notice, Revision};
pub use key::{Key, Kind};
pub use lease::Heartbeat;
pub use memory::Memory;
pub use mirror::{Mirror, View};
pub use store::{Store, Watch};
pub use table::{Row, Rows, Stored, Table};
pub use transaction::{Outcome, Transaction};
