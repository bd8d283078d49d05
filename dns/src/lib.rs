//! The embedded resolver: what is answered (`zone`, pure), and the sockets it is asked through (`server`).
//!
//! It knows nothing of the journal, of namespaces or of CNI: the agent tells it members and hands it sockets.

mod forward;
mod fuzz;
pub mod server;
pub mod wire;
pub mod zone;

pub use forward::{NameServer, ResolvConf};
pub use fuzz::{fuzz_dns_answer, fuzz_dns_message, fuzz_host_resolv_conf};
