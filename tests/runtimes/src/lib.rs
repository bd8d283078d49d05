//! What the tests in `tests/` need to drive real container runtimes, containerd, `ctr` and
//! Podman, against any directory of CNI executables.
//!
//! The directory is named by `ZEUGMA_RUNTIME_TESTS_BIN_DIR` or `ZEUGMA_BIN_DIR`. Against
//! Debian's `/usr/lib/cni` the suite passes too: that tests the tests. Nothing here uses
//! zeugma's own code: what a test claims is seen with `ip`, `nft` and traffic.

mod agent;
mod containerd;
mod cri;
mod image;
mod node;
mod plugins;
mod podman;
mod require;

pub use agent::Agent;
pub use containerd::Containerd;
pub use cri::{Cri, Pod, PortMapping, Protocol};
pub use image::{IMAGE, serve};
pub use node::{NODE_ADDRESS, Node, OUTSIDE_ADDRESS};
pub use plugins::{Plugins, conflist};
pub use podman::Podman;
pub use require::{eventually, skip_without, skipped};
