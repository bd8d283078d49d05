//! The embedded resolver: what is answered (`zone`, pure), and the sockets it is asked through (`server`).
//!
//! It knows nothing of the journal, of namespaces or of CNI: the agent tells it members and hands it sockets.

pub mod server;
pub mod wire;
pub mod zone;
