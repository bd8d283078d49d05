//! The executable `zeugma`: all of it is in the library beside.

fn main() -> std::process::ExitCode {
    zeugma_cli::main()
}
