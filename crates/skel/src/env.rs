//! The environment of a plugin, read in this one place: everything behind it is a function of values.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeugma_model::{ContainerId, IfName, NameError};

use crate::{Command, SkelError};

/// The variables as they came. As in the reference, empty is the same as missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env {
    /// `CNI_COMMAND`.
    pub command: String,
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_NETNS`.
    pub netns: OsString,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// `CNI_PATH`: folders with colons between them.
    pub path: OsString,
    /// `CNI_NETNS` is the namespace of this process, and `CNI_NETNS_OVERRIDE` does not allow that.
    pub own_netns: bool,
}

/// The variables that name an attachment, read.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) container: ContainerId,
    pub(crate) ifname: IfName,
    pub(crate) netns: Option<PathBuf>,
    pub(crate) path: Vec<PathBuf>,
}

impl Env {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let raw = |name| std::env::var_os(name).unwrap_or_default();
        let text = |name| raw(name).to_string_lossy().into_owned();
        let netns = raw("CNI_NETNS");
        let allowed = matches!(text("CNI_NETNS_OVERRIDE").to_ascii_lowercase().as_str(), "1" | "true");
        Self {
            command: text("CNI_COMMAND"),
            container: text("CNI_CONTAINERID"),
            ifname: text("CNI_IFNAME"),
            args: text("CNI_ARGS"),
            path: raw("CNI_PATH"),
            own_netns: !allowed && !netns.is_empty() && is_own_netns(Path::new(&netns)),
            netns,
        }
    }

    /// The folders of `CNI_PATH`.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        std::env::split_paths(&self.path).filter(|folder| !folder.as_os_str().is_empty()).collect()
    }

    /// What `command` needs of GC and STATUS: `CNI_PATH` alone.
    pub(crate) fn network(&self) -> Result<Vec<PathBuf>, SkelError> {
        let mut missing = Vec::new();
        present(&self.path, "CNI_PATH", &mut missing);
        complete(missing)?;
        Ok(self.folders())
    }

    /// What ADD, CHECK and DEL need, in the reference's order: a variable with an invalid value is reported
    /// at once, the missing ones together. Only DEL does without a namespace.
    pub(crate) fn attached(&self, command: Command) -> Result<Attached, SkelError> {
        let mut missing = Vec::new();
        let container = name(&self.container, "CNI_CONTAINERID", &mut missing)?;
        if command != Command::Del {
            present(&self.netns, "CNI_NETNS", &mut missing);
        }
        let ifname = name(&self.ifname, "CNI_IFNAME", &mut missing)?;
        present(&self.path, "CNI_PATH", &mut missing);
        let netns = Some(PathBuf::from(&self.netns)).filter(|path| !path.as_os_str().is_empty());
        match (container, ifname) {
            (Some(container), Some(ifname)) if missing.is_empty() => {
                Ok(Attached { container, ifname, netns, path: self.folders() })
            }
            _ => Err(SkelError::Missing { variables: missing }),
        }
    }
}

fn complete(missing: Vec<&'static str>) -> Result<(), SkelError> {
    if missing.is_empty() { Ok(()) } else { Err(SkelError::Missing { variables: missing }) }
}

fn present(value: &OsStr, variable: &'static str, missing: &mut Vec<&'static str>) {
    if value.is_empty() {
        missing.push(variable);
    }
}

fn name<T: std::str::FromStr<Err = NameError>>(
    value: &str,
    variable: &'static str,
    missing: &mut Vec<&'static str>,
) -> Result<Option<T>, SkelError> {
    present(OsStr::new(value), variable, missing);
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|source| SkelError::Name { variable, source })
}

/// Device and inode name a namespace. A path that leads nowhere is nobody's.
fn is_own_netns(path: &Path) -> bool {
    match (fs::metadata(path), fs::metadata("/proc/self/ns/net")) {
        (Ok(given), Ok(own)) => (given.dev(), given.ino()) == (own.dev(), own.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_namespace_is_known_by_device_and_inode() {
        assert!(is_own_netns(Path::new("/proc/self/ns/net")));
        assert!(!is_own_netns(Path::new("/proc/self/ns/mnt")));
        assert!(!is_own_netns(Path::new("/nowhere")));
    }
}
