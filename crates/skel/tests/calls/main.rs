//! Calls as a runtime makes them, against a plugin that is a value: what goes in as environment and standard
//! input, what comes out.

// Clippy allows it in test functions, not in what they share.
#![allow(clippy::unwrap_used)]

mod delegates;
mod dry_run;
mod environment;
mod plugin;
mod verbs;
