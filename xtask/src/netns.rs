//! Private namespaces for a chore: it starts itself again inside new network and mount namespaces.
//!
//! Nothing of the machine is seen or changed from there: /run and /var/lib/cni are empty and go away with the
//! last process. Tests have richer worlds in `netns-fixtures`.

use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, ensure};

use crate::shell;

/// Set in the process that is inside.
const INSIDE: &str = "ZEUGMA_XTASK_INSIDE";
/// Directories that are made empty inside: what runtimes and plugins write.
const PRIVATE: [&str; 4] = ["/run", "/var/lib/cni", "/var/lib/containers", "/etc/cni"];

/// What our own executables write elsewhere otherwise, in directories that a fresh machine has not got yet.
const OURS: [(&str, &str); 2] =
    [("ZEUGMA_STATE_DIR", "/run/zeugma-state"), ("ZEUGMA_CNI_CONF_DIR", "/run/zeugma-lists")];

/// True in the process that [`enter`] started.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Starts this executable with `args` in new namespaces and waits for it.
pub(crate) fn enter(args: &[&str], environment: &[(&str, &str)]) -> Result<ExitStatus> {
    prepared(args)?
        .envs(environment.iter().copied())
        .status()
        .context("cannot start `unshare`; is util-linux installed?")
}

/// A command that runs this executable with `args` in new namespaces, for a caller who talks to it by pipes.
pub(crate) fn prepared(args: &[&str]) -> Result<Command> {
    let mut command = shell::command("unshare", ["--net", "--mount", "--propagation", "private", "--"]);
    command.arg(std::env::current_exe()?).args(args).env(INSIDE, "1").envs(OURS);
    Ok(command)
}

/// To be called first inside: empties the private directories and brings the loopback up.
pub(crate) fn settle() -> Result<()> {
    ensure!(is_inside(), "only inside namespaces of our own");
    for dir in PRIVATE {
        if std::path::Path::new(dir).is_dir() {
            shell::read(&mut shell::command("mount", ["-t", "tmpfs", "tmpfs", dir]))?;
        }
    }
    std::fs::create_dir_all("/run/netns")?;
    ip("link set lo up")
}

/// Runs `ip` with the words of `line`.
pub(crate) fn ip(line: &str) -> Result<()> {
    shell::read(&mut shell::command("ip", line.split_whitespace())).map(drop)
}

/// Runs the words of `line` inside the named namespace and returns their standard output.
pub(crate) fn ip_exec(netns: &str, line: &str) -> Result<String> {
    let words = ["netns", "exec", netns].into_iter().chain(line.split_whitespace());
    shell::read(&mut shell::command("ip", words))
}
