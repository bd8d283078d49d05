//! `zeugma-cni`: every plugin in one executable; it acts as the one that it is called by.
//!
//! What the plugins do: the library beside this file.

use std::process::ExitCode;

fn main() -> ExitCode {
    zeugma_plugins::main()
}
