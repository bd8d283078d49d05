//! Debian's kernel and its modules: downloaded and unpacked below the target directory, not installed.
//!
//! Which version is whatever the machine's package lists have; it is fetched once.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{packages, shell};

/// Names that lead to the newest kernel package, the best first: small, and of another version than most machines
/// that build. A release of Debian has one of them.
const NAMES: [&str; 3] = ["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64", "linux-image-amd64"];

/// A kernel that can be booted.
pub(super) struct Kernel {
    /// What `uname -r` will say.
    pub(super) release: String,
    /// The compressed kernel.
    pub(super) image: PathBuf,
    /// The directory above `lib/modules`.
    root: PathBuf,
}

/// A package in the version that apt would install.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
}

/// Fetches it into `cache`, unless it is there.
pub(super) fn fetched(cache: &Path) -> Result<Kernel> {
    ensure!(cfg!(target_arch = "x86_64"), "the virtual machine is an x86_64; run this on one");
    let package = match candidate() {
        Some(package) if kernel_of(&package, cache).is_dir() => package,
        Some(package) if fetch(&package, cache).is_ok() => package,
        // No lists at all, or older than what the archive still has.
        _ => {
            packages::update_lists()?;
            let package = candidate().with_context(|| format!("apt knows none of {NAMES:?}"))?;
            fetch(&package, cache)?;
            package
        }
    };
    Kernel::unpacked(kernel_of(&package, cache))
}

fn kernel_of(package: &Package, cache: &Path) -> PathBuf {
    cache.join(format!("{}_{}", package.name, package.version))
}

/// What one of [`NAMES`] depends on.
fn candidate() -> Option<Package> {
    NAMES.iter().find_map(|name| {
        let shown =
            shell::read(&mut shell::command("apt-cache", ["show", "--no-all-versions", name])).ok()?;
        depended_on(&shown)
    })
}

/// From `Depends: linux-image-6.12.9-cloud-amd64 (= 6.12.9-1)`.
fn depended_on(shown: &str) -> Option<Package> {
    let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let image = depends.split(", ").find(|package| package.starts_with("linux-image-"))?;
    let (name, version) = image.split_once(" (= ")?;
    Some(Package { name: name.to_owned(), version: version.trim_end_matches(')').to_owned() })
}

/// Downloads and unpacks; nothing half done is ever found at the final place.
fn fetch(package: &Package, cache: &Path) -> Result<()> {
    let Package { name, version } = package;
    let draft = cache.join("kernel.draft");
    if draft.exists() {
        fs::remove_dir_all(&draft)?;
    }
    fs::create_dir_all(&draft)?;
    let mut download = shell::command("apt-get", ["download", "-q", &format!("{name}={version}")]);
    shell::run(download.current_dir(&draft))?;
    let files = fs::read_dir(&draft)?.collect::<Result<Vec<_>, _>>()?;
    let [archive] = &files[..] else { bail!("apt-get download left {} files", files.len()) };
    shell::run(Command::new("dpkg-deb").arg("-x").arg(archive.path()).arg(draft.join("root")))?;
    fs::remove_file(archive.path())?;
    prepare(&draft.join("root"))?;
    fs::rename(draft.join("root"), kernel_of(package, cache))?;
    fs::remove_dir(&draft).context("remove the empty draft")
}

/// What the package's installation would do: the index of what module needs what. Where modules lie differs
/// between Debian's releases, so both places lead to them.
fn prepare(root: &Path) -> Result<()> {
    if root.join("lib").exists() {
        fs::create_dir_all(root.join("usr/lib"))?;
        symlink("../../lib/modules", root.join("usr/lib/modules"))?;
    } else {
        symlink("usr/lib", root.join("lib"))?;
    }
    let release = release(root)?;
    shell::run(Command::new("depmod").arg("-b").arg(root).arg(release))
}

fn release(root: &Path) -> Result<String> {
    let modules = root.join("lib/modules");
    let mut entries = fs::read_dir(&modules).with_context(|| format!("list {}", modules.display()))?;
    let entry = entries.next().with_context(|| format!("{} is empty", modules.display()))??;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

impl Kernel {
    fn unpacked(root: PathBuf) -> Result<Kernel> {
        let release = release(&root)?;
        Ok(Kernel { image: root.join(format!("boot/vmlinuz-{release}")), release, root })
    }

    /// The files of these modules and of all that they need, in the order in which they have to be loaded.
    pub(super) fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for name in names {
            let mut modprobe = shell::command("modprobe", ["--show-depends", "--set-version", &self.release]);
            let shown = shell::read(modprobe.arg("--dirname").arg(&self.root).arg(name))
                .with_context(|| format!("the kernel {} has no module {name}", self.release))?;
            for file in module_files(&shown) {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

/// From lines like `insmod /lib/modules/6.12/net/llc/llc.ko.xz`; what is built in needs no file.
fn module_files(shown: &str) -> Vec<PathBuf> {
    let files = shown.lines().filter_map(|line| line.strip_prefix("insmod "));
    files.filter_map(|file| file.split_whitespace().next()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_name_depends_on() {
        let shown =
            "Package: linux-image-cloud-amd64\nDepends: linux-image-6.12.9+deb13-cloud-amd64 (= 6.12.9-1)\n";
        let package = depended_on(shown).unwrap();
        assert_eq!(package.name, "linux-image-6.12.9+deb13-cloud-amd64");
        assert_eq!(package.version, "6.12.9-1");
        assert_eq!(depended_on("Package: linux-image-6.12.9\nDepends: kmod, linux-base\n"), None);
    }

    #[test]
    fn modules_come_in_the_order_of_loading_and_without_what_is_built_in() {
        let shown = "builtin ipv6\ninsmod /lib/a.ko.xz \ninsmod /lib/b.ko x=1\n";
        assert_eq!(module_files(shown), ["/lib/a.ko.xz", "/lib/b.ko"].map(PathBuf::from));
    }
}
