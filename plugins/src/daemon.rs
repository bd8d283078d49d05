//! `dhcp daemon`, as the reference's service units call it: becomes `zeugma dhcp`.
//!
//! The daemon is not in this executable, which has to stay small.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Does not come back unless there is no `zeugma`.
pub(crate) fn become_daemon(flags: &[&str]) -> ExitCode {
    let beside = env::current_exe().ok().map(|exe| exe.with_file_name("zeugma")).filter(|path| path.exists());
    let zeugma = beside.unwrap_or_else(|| PathBuf::from("zeugma"));
    let error =
        Command::new(&zeugma).arg("dhcp").args(flags.iter().filter_map(|flag| translated(flag))).exec();
    eprintln!("dhcp daemon: cannot run {}: {error}; install `zeugma`, whose part it is", zeugma.display());
    ExitCode::FAILURE
}

/// Go takes one dash or two, and switches with a value.
fn translated(word: &str) -> Option<String> {
    let Some(flag) = word.strip_prefix('-') else { return Some(word.into()) };
    match flag.strip_prefix('-').unwrap_or(flag) {
        "broadcast=false" => None,
        "broadcast=true" => Some("--broadcast".into()),
        name => Some(format!("--{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_go_are_understood() {
        let check = |words: &[&str], expected: &[&str]| {
            let translated: Vec<String> = words.iter().filter_map(|word| translated(word)).collect();
            assert_eq!(translated, expected);
        };
        check(&["-socketpath", "/run/x"], &["--socketpath", "/run/x"]);
        check(&["-timeout=5s", "--resendmax=9s"], &["--timeout=5s", "--resendmax=9s"]);
        check(&["-broadcast", "-broadcast=true", "-broadcast=false"], &["--broadcast", "--broadcast"]);
    }
}
