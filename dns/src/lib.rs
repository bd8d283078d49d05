//! The embedded resolver: what is answered (`zone`, pure), and the sockets it is asked through (`server`). What is not
//! a container's name is answered from files of the operator's (`authority`), or others are asked (`forward`).
//!
//! It knows nothing of the journal, of namespaces or of CNI: the agent tells it members and hands it sockets.

mod authority;
mod forward;
mod fuzz;
mod mark;
pub mod server;
pub mod wire;
pub mod zone;

pub use forward::{NameServer, ResolvConf};
pub use fuzz::{fuzz_dns_answer, fuzz_dns_message, fuzz_host_resolv_conf};
