//! Delegates: executables that do a part of a plugin's work, an IPAM above all. Finds and runs them.
//!
//! Does not decide whether a delegate is a function of this very executable: it only says so
//! ([`is_self`]).

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use zeugma_protocol::{CniCode, CniResult, Code, DecodeError, ErrorObject, Version};

use crate::{Command, NetworkRequest, Request};

/// What a pipe takes while nobody reads it (pipe(7): 65,536 bytes).
const PIPE_BYTES: usize = 65_536;

/// A delegate could not be found, run or understood, or failed.
#[derive(Debug, thiserror::Error)]
pub enum DelegateError {
    /// The configuration names none.
    #[error("no plugin name provided: set \"type\" of the delegate")]
    NoType,
    /// A `type` is a file's name, not a path.
    #[error("invalid plugin name: {0:?}: a type is the name of an executable in CNI_PATH, without folders")]
    NotAName(String),
    /// No such executable.
    #[error("failed to find plugin {plugin:?} in path {path:?}: install it there, or correct the type")]
    NotFound {
        /// Its `type`.
        plugin: String,
        /// Where it was looked for.
        path: Vec<PathBuf>,
    },
    /// It is there but does not run, or its pipes broke.
    #[error("cannot run plugin {}: {source}", .binary.display())]
    Run {
        /// The executable.
        binary: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ran and failed with an error object.
    #[error("{plugin}: {}", .error.msg)]
    Failed {
        /// Its file name.
        plugin: String,
        /// What it said.
        error: ErrorObject,
    },
    /// It failed without an error object.
    #[error(
        "plugin {plugin} failed without an error object ({status}); it printed {printed:?}; see its standard error"
    )]
    Mute {
        /// Its file name.
        plugin: String,
        /// How it ended.
        status: ExitStatus,
        /// The begin of its standard output.
        printed: String,
    },
    /// ADD succeeded but printed no JSON.
    #[error("plugin {plugin} printed no result: {source}")]
    NoResult {
        /// Its file name.
        plugin: String,
        /// Why it is none.
        source: serde_json::Error,
    },
    /// ADD succeeded but its result is of the wrong shape.
    #[error("the result of plugin {plugin} cannot be read: {source}")]
    BadResult {
        /// Its file name.
        plugin: String,
        /// Why.
        source: DecodeError,
    },
}

impl CniCode for DelegateError {
    fn code(&self) -> Code {
        match self {
            Self::NoType | Self::NotAName(_) | Self::NotFound { .. } => Code::InvalidNetworkConfig,
            Self::Run { .. } | Self::Mute { .. } => Code::IoFailure,
            Self::Failed { error, .. } => error.code,
            Self::NoResult { .. } | Self::BadResult { .. } => Code::DecodingFailure,
        }
    }

    fn details(&self) -> String {
        match self {
            Self::Failed { error, .. } => error.details.clone(),
            Self::NoType
            | Self::NotAName(_)
            | Self::NotFound { .. }
            | Self::Run { .. }
            | Self::Mute { .. }
            | Self::NoResult { .. }
            | Self::BadResult { .. } => String::new(),
        }
    }
}

impl DelegateError {
    /// Whether it failed because it does not know the verb, as the reference's plugins do with GC and STATUS.
    pub fn is_unknown_verb(&self) -> bool {
        match self {
            Self::Failed { error, .. } => {
                error.code == Code::IncompatibleVersion || error.msg.contains("unknown CNI_COMMAND")
            }
            _ => false,
        }
    }
}

/// On whose behalf a delegate runs.
pub trait Caller {
    /// The configuration's version, which the delegate's result has when it names none.
    fn version(&self) -> Version;
    /// The variables of the request; everything else is inherited from this process.
    fn variables(&self) -> Vec<(&'static str, OsString)>;
}

impl Caller for Request {
    fn version(&self) -> Version {
        self.conf.cni_version
    }

    fn variables(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("CNI_CONTAINERID", self.container.as_str().into()),
            ("CNI_NETNS", self.netns.clone().unwrap_or_default().into()),
            ("CNI_IFNAME", self.ifname.as_str().into()),
            ("CNI_PATH", joined(&self.path)),
        ]
    }
}

impl Caller for NetworkRequest {
    fn version(&self) -> Version {
        self.conf.cni_version
    }

    fn variables(&self) -> Vec<(&'static str, OsString)> {
        vec![("CNI_PATH", joined(&self.path))]
    }
}

fn joined(path: &[PathBuf]) -> OsString {
    path.iter().map(|folder| folder.as_os_str()).collect::<Vec<_>>().join(":".as_ref())
}

/// The first regular file named `plugin_type` in the folders of `path`.
pub fn find(plugin_type: &str, path: &[PathBuf]) -> Result<PathBuf, DelegateError> {
    match plugin_type {
        "" => return Err(DelegateError::NoType),
        "." | ".." => return Err(DelegateError::NotAName(plugin_type.into())),
        text if text.contains(['/', '\0']) => return Err(DelegateError::NotAName(text.into())),
        _ => {}
    }
    let candidates = path.iter().map(|folder| folder.join(plugin_type));
    let found = candidates.into_iter().find(|file| fs::metadata(file).is_ok_and(|file| file.is_file()));
    found.ok_or_else(|| DelegateError::NotFound { plugin: plugin_type.into(), path: path.to_vec() })
}

/// Whether `binary`, links followed, is the executable of this process: same device and inode.
pub fn is_self(binary: &Path) -> bool {
    match (fs::metadata(binary), fs::metadata("/proc/self/exe")) {
        (Ok(other), Ok(own)) => (other.dev(), other.ino()) == (own.dev(), own.ino()),
        _ => false,
    }
}

/// Runs `binary` with `stdin` (the complete configuration) and the caller's environment. ADD gives a
/// result, the other verbs none. Its standard error is this process's.
pub fn exec(
    binary: &Path,
    command: Command,
    caller: &impl Caller,
    stdin: &[u8],
) -> Result<Option<CniResult>, DelegateError> {
    let output = output(binary, command, caller, stdin)
        .map_err(|source| DelegateError::Run { binary: binary.into(), source })?;
    let plugin = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !output.status.success() {
        return Err(failure(plugin, &output));
    }
    if command != Command::Add {
        return Ok(None);
    }
    match serde_json::from_slice::<Value>(&output.stdout) {
        Ok(json) => CniResult::from_json(&json, caller.version())
            .map(Some)
            .map_err(|source| DelegateError::BadResult { plugin, source }),
        Err(source) => Err(DelegateError::NoResult { plugin, source }),
    }
}

fn failure(plugin: String, output: &Output) -> DelegateError {
    let printed = serde_json::from_slice::<Value>(&output.stdout).ok();
    match printed.as_ref().and_then(ErrorObject::from_json) {
        Some(error) => DelegateError::Failed { plugin, error },
        None => {
            let printed = String::from_utf8_lossy(&output.stdout).chars().take(200).collect();
            DelegateError::Mute { plugin, status: output.status, printed }
        }
    }
}

fn output(binary: &Path, command: Command, caller: &impl Caller, stdin: &[u8]) -> io::Result<Output> {
    let mut process = process::Command::new(binary);
    process.envs(caller.variables()).env("CNI_COMMAND", command.as_str());
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = spawn(&mut process)?;
    let Some(pipe) = child.stdin.take() else {
        return child.wait_with_output();
    };
    if stdin.len() <= PIPE_BYTES {
        feed(pipe, stdin)?;
        return child.wait_with_output();
    }
    thread::scope(|scope| {
        let feeder = scope.spawn(|| feed(pipe, stdin));
        let output = child.wait_with_output();
        feeder.join().unwrap_or(Ok(())).and(output)
    })
}

/// An executable that is just being installed is busy for a moment.
fn spawn(process: &mut process::Command) -> io::Result<process::Child> {
    for _ in 0..20 {
        match process.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
    process.spawn()
}

/// A delegate need not read its configuration.
fn feed(mut pipe: ChildStdin, stdin: &[u8]) -> io::Result<()> {
    match pipe.write_all(stdin) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
