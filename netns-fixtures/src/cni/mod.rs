//! A CNI runtime in small: what libcni does with a conflist, driven against real executables in a host.
//! It is written from the specification and shares no code with the plugins it judges.

mod attachment;
mod call;
mod chain;

pub use attachment::Attachment;
pub use call::{Call, CniError, Outcome};
pub use chain::Chain;
