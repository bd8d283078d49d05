//! The checklist of the CNI specification and its conventions, as far as the wire form decides it: one test a
//! line. What a plugin does with it is tested elsewhere.

// Clippy allows it in test functions, not in what they share.
#![allow(clippy::unwrap_used)]

mod config;
mod corpus;
mod errors;
mod results;
mod round_trip;
