//! The CNI protocol: the wire types of every version from 0.1.0 to 1.1.0, and its errors.
//!
//! Values only: reading the environment and standard input is `skel`'s.

mod decode;
mod dns;
mod error;
mod fold;
mod fuzz;
mod netconf;
mod result;
mod version;
mod wire;

pub use decode::{DecodeError, EncodeError, read, read_key, read_object};
pub use dns::Dns;
pub use error::{CniCode, Code, ErrorObject};
pub use fuzz::{fuzz_netconf, fuzz_result};
pub use netconf::NetConf;
pub use result::{CniResult, Interface, Ip, Route};
pub use version::{UnknownVersion, Version, incompatible_details, version_answer};
