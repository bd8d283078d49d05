//! From environment and standard input to a typed request; from a result or error to standard output and
//! exit status. Also finds and runs delegates.
//!
//! Knows the protocol, not the plugins: what a verb does is decided behind [`Plugin`].

mod args;
mod command;
pub mod delegate;
mod env;
mod error;
mod identity;
mod request;
mod respond;

use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;

pub use args::{ArgsError, CniArgs, fuzz_args};
pub use command::Command;
pub use env::Env;
pub use error::SkelError;
pub use request::{NetworkRequest, Plugin, Request};
pub use respond::{Response, rehearse, respond};

/// A plugin's `main`: reads the process's environment and standard input, answers on standard output.
pub fn run<P: Plugin>(plugin: &P) -> ExitCode {
    let env = Env::of_process();
    let stdin = if env.command.is_empty() { Ok(Vec::new()) } else { read_stdin() };
    let response = match stdin {
        Ok(stdin) => respond(&env, &stdin, plugin),
        Err(source) => Response::failure(None, &SkelError::Stdin { source }),
    };
    emit(&response)
}

/// `--dry-run`: what an ADD would do, as text for a person, without privileges. `CNI_COMMAND` is not looked
/// at, and the other variables have examples as defaults.
pub fn dry_run<P: Plugin>(plugin: &P) -> ExitCode {
    let response = match read_stdin() {
        Ok(stdin) => rehearse(&Env::of_process(), &stdin, plugin),
        Err(source) => Response::complaint::<P>(&SkelError::Stdin { source }),
    };
    emit(&response)
}

/// Nobody types a configuration: a terminal counts as empty, lest VERSION by hand waits for ever.
fn read_stdin() -> io::Result<Vec<u8>> {
    let mut stdin = io::stdin().lock();
    let mut content = Vec::with_capacity(4096);
    if !stdin.is_terminal() {
        stdin.read_to_end(&mut content)?;
    }
    Ok(content)
}

/// One write for each stream. When standard output is closed nobody can learn more than the exit status.
fn emit(response: &Response) -> ExitCode {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(&response.stdout).and_then(|()| stdout.flush());
    let complained = io::stderr().lock().write_all(&response.stderr);
    match written.and(complained) {
        Ok(()) => ExitCode::from(response.exit),
        Err(_) => ExitCode::FAILURE,
    }
}
