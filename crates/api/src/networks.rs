//! What is said of networks.
//!
//! A change is answered once the list that runtimes read is as the catalogue says.

use serde::{Deserialize, Serialize};
use zeugma_model::Network;

/// `GET`: a list of [`NetworkView`]. With `?after=REVISION` it waits, up to 30 s, until something is newer.
pub const NETWORKS: &str = "/v1/networks";
/// `GET`: [`NetworkView`]; `PUT`, body [`Network`]: creates it, answers [`NetworkWritten`]. One that is there already is
/// never changed: it is as wanted, or the request is refused; with the header `If-None-Match: *` always. `DELETE`:
/// [`NetworkRemoved`], refused while containers of this host or services are on it.
pub const NETWORK: &str = "/v1/networks/{name}";

/// A network as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkView {
    /// Itself.
    pub network: Network,
    /// When the catalogue last wrote it.
    pub revision: u64,
    /// What does not work on this host, a line each: another maker's network has the name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// A network was created, or is there already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkWritten {
    /// With the subnets that were found for it.
    pub network: Network,
    /// When the catalogue wrote it.
    pub revision: u64,
    /// Nothing was different.
    #[serde(default)]
    pub unchanged: bool,
    /// What does not work nevertheless, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// A network is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRemoved {
    /// When the catalogue wrote it.
    pub revision: u64,
    /// What is left on this host, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}
