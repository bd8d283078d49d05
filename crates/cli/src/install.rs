//! Puts `zeugma-cni` and its links into a plugin directory, and takes them out again.
//!
//! A node may be starting containers meanwhile: every name changes by one rename, so that it is never missing
//! and never half written. Only names that are ours are ever removed.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use zeugma_model::PLUGINS;

/// The file that all links lead to.
pub(crate) const EXECUTABLE: &str = "zeugma-cni";
/// What `--replace` appends to the name of another maker's plugin.
const SAVED: &str = ".replaced-by-zeugma";

/// The `zeugma-cni` that came with this `zeugma`.
pub(crate) fn beside_this_executable() -> Result<PathBuf> {
    let here =
        std::env::current_exe().context("this executable's own path cannot be read; use --from FILE")?;
    let found = here.with_file_name(EXECUTABLE);
    ensure!(found.is_file(), "no {EXECUTABLE} beside {}; name it with --from FILE", here.display());
    Ok(found)
}

/// Copies `from` into `bin_dir` and links every plugin to it; returns a line for each change.
///
/// With `replace` the plain names become ours too, and what stood there is kept beside them. Doing it twice is
/// doing it once. Where something is in the way of one name, nothing is done for any.
pub(crate) fn install(from: &Path, bin_dir: &Path, replace: bool) -> Result<Vec<String>> {
    ensure!(from.is_file(), "{} is no file; name the zeugma-cni to install with --from FILE", from.display());
    let obstacles = obstacles(bin_dir, replace);
    ensure!(
        obstacles.is_empty(),
        "nothing was installed: {} cannot be replaced by a link; move it away and install again",
        obstacles.join(", ")
    );
    fs::create_dir_all(bin_dir).with_context(|| format!("cannot create {}", bin_dir.display()))?;
    let mut done = Vec::from_iter(place_executable(from, bin_dir)?);
    for plugin in PLUGINS {
        let name = format!("zeugma-{plugin}");
        done.extend(save_foreign(bin_dir, &name)?);
        done.extend(place_link(bin_dir, &name)?);
    }
    if replace {
        for plugin in PLUGINS {
            done.extend(save_foreign(bin_dir, plugin)?);
            done.extend(place_link(bin_dir, plugin)?);
        }
    }
    Ok(done)
}

/// What is in the way of the names that [`install`] takes, and of those that it keeps others' files under: only a
/// directory is, as no rename replaces it.
fn obstacles(bin_dir: &Path, replace: bool) -> Vec<String> {
    let ours = PLUGINS.iter().map(|plugin| format!("zeugma-{plugin}"));
    let plain = PLUGINS.iter().filter(|_| replace).map(ToString::to_string);
    let taken: Vec<PathBuf> = ours
        .chain(plain)
        .flat_map(|name| [bin_dir.join(&name), saved(bin_dir, &name)])
        .chain([bin_dir.join(EXECUTABLE)])
        .collect();
    let is_directory = |path: &&PathBuf| path.symlink_metadata().is_ok_and(|found| found.is_dir());
    taken.iter().filter(is_directory).map(|path| format!("directory {}", path.display())).collect()
}

/// Lets the installed executable clear the host; it says what it removed.
pub(crate) fn purge(bin_dir: &Path) -> Result<()> {
    let executable = bin_dir.join(EXECUTABLE);
    let status = std::process::Command::new(&executable).arg("--purge").status();
    let status = status.with_context(|| format!("cannot run {}", executable.display()))?;
    ensure!(status.success(), "nothing was uninstalled: see the message above");
    Ok(())
}

/// Removes what [`install`] placed and puts back what it kept; returns a line for each change.
///
/// A name that someone else has taken since is left alone, and so is the file kept for it.
pub(crate) fn uninstall(bin_dir: &Path) -> Result<Vec<String>> {
    let mut done = Vec::new();
    for plugin in PLUGINS {
        done.extend(give_back(bin_dir, plugin)?);
        done.extend(give_back(bin_dir, &format!("zeugma-{plugin}"))?);
    }
    done.extend(remove(&bin_dir.join(EXECUTABLE))?);
    Ok(done)
}

fn place_executable(from: &Path, bin_dir: &Path) -> Result<Option<String>> {
    let target = bin_dir.join(EXECUTABLE);
    if same_file(from, &target) {
        return Ok(None);
    }
    let draft = draft(bin_dir, EXECUTABLE);
    fs::copy(from, &draft)
        .with_context(|| format!("cannot copy {} to {}", from.display(), draft.display()))?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755))?;
    // On disk before it gets its name: after a power cut the node must not find an empty plugin.
    fs::File::open(&draft)?.sync_all()?;
    rename(&draft, &target)?;
    Ok(Some(format!("installed {}", target.display())))
}

fn place_link(bin_dir: &Path, name: &str) -> Result<Option<String>> {
    let target = bin_dir.join(name);
    if is_ours(bin_dir, &target) {
        return Ok(None);
    }
    let draft = draft(bin_dir, name);
    symlink(EXECUTABLE, &draft).with_context(|| format!("cannot create the link {}", draft.display()))?;
    rename(&draft, &target)?;
    Ok(Some(format!("linked {} -> {EXECUTABLE}", target.display())))
}

/// Keeps another maker's `name`. Kept by a second hard link, so that `name` itself is never missing; an older
/// kept file gives way to a newer one (the distribution's package was upgraded in between).
fn save_foreign(bin_dir: &Path, name: &str) -> Result<Option<String>> {
    let target = bin_dir.join(name);
    if target.symlink_metadata().is_err() || is_ours(bin_dir, &target) {
        return Ok(None);
    }
    let draft = draft(bin_dir, name);
    fs::hard_link(&target, &draft).with_context(|| format!("cannot keep {}", target.display()))?;
    let saved = saved(bin_dir, name);
    rename(&draft, &saved)?;
    Ok(Some(format!("kept {} as {}", target.display(), saved.display())))
}

fn give_back(bin_dir: &Path, name: &str) -> Result<Option<String>> {
    let (target, saved) = (bin_dir.join(name), saved(bin_dir, name));
    let taken = target.symlink_metadata().is_ok() && !is_ours(bin_dir, &target);
    match (taken, saved.symlink_metadata().is_ok()) {
        (false, true) => {
            rename(&saved, &target)?;
            Ok(Some(format!("put back {}", target.display())))
        }
        (false, false) => remove(&target),
        (true, true) => {
            Ok(Some(format!("left {}: {} is not ours any more", saved.display(), target.display())))
        }
        (true, false) => Ok(None),
    }
}

fn remove(target: &Path) -> Result<Option<String>> {
    match fs::remove_file(target) {
        Ok(()) => Ok(Some(format!("removed {}", target.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", target.display())),
    }
}

/// Ours is a link to `zeugma-cni` in this directory, symbolic (also while its end is missing) or hard.
pub(crate) fn is_ours(bin_dir: &Path, target: &Path) -> bool {
    let linked = fs::read_link(target)
        .is_ok_and(|end| end == Path::new(EXECUTABLE) || end == bin_dir.join(EXECUTABLE));
    linked || same_file(target, &bin_dir.join(EXECUTABLE))
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

fn saved(bin_dir: &Path, name: &str) -> PathBuf {
    bin_dir.join(format!("{name}{SAVED}"))
}

/// A free name in the same directory (rename needs that); a left-over of a killed process of the same id is
/// removed, since nobody else can own it.
fn draft(bin_dir: &Path, name: &str) -> PathBuf {
    let draft = bin_dir.join(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&draft);
    draft
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Name → content of a file, or `-> end` of a link.
    fn listing(dir: &Path) -> BTreeMap<String, String> {
        let entry = |e: fs::DirEntry| {
            let text = match fs::read_link(e.path()) {
                Ok(end) => format!("-> {}", end.display()),
                Err(_) => fs::read_to_string(e.path()).unwrap(),
            };
            (e.file_name().into_string().unwrap(), text)
        };
        fs::read_dir(dir).unwrap().map(|e| entry(e.unwrap())).collect()
    }

    fn node() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let (from, bin) = (root.path().join("built"), root.path().join("bin"));
        fs::create_dir(&bin).unwrap();
        fs::write(&from, "ours").unwrap();
        (root, from, bin)
    }

    #[test]
    fn install_links_every_plugin_and_touches_no_plain_name() {
        let (_root, from, bin) = node();
        fs::write(bin.join("bridge"), "theirs").unwrap();
        install(&from, &bin, false).unwrap();
        let found = listing(&bin);
        assert_eq!(found["zeugma-cni"], "ours");
        assert_eq!(found["zeugma-host-local"], "-> zeugma-cni");
        assert_eq!(found["bridge"], "theirs");
        assert_eq!(found.len(), PLUGINS.len() + 2);
    }

    #[test]
    fn replace_and_uninstall_leave_the_directory_as_it_was() {
        let (_root, from, bin) = node();
        fs::write(bin.join("bridge"), "theirs").unwrap();
        symlink("/elsewhere/portmap", bin.join("portmap")).unwrap();
        fs::write(bin.join("vlan"), "not one of ours").unwrap();
        let before = listing(&bin);
        install(&from, &bin, true).unwrap();
        let found = listing(&bin);
        assert_eq!(found["bridge"], "-> zeugma-cni");
        assert_eq!(found["bridge.replaced-by-zeugma"], "theirs");
        assert_eq!(found["portmap.replaced-by-zeugma"], "-> /elsewhere/portmap");
        assert_eq!(found["tuning"], "-> zeugma-cni");
        uninstall(&bin).unwrap();
        assert_eq!(listing(&bin), before);
    }

    #[test]
    fn a_directory_in_the_way_of_any_name_stops_all_of_it() {
        for name in ["tuning", "zeugma-tuning", "zeugma-cni", "bridge.replaced-by-zeugma"] {
            let (_root, from, bin) = node();
            fs::write(bin.join("bridge"), "theirs").unwrap();
            fs::create_dir(bin.join(name)).unwrap();
            let error = install(&from, &bin, true).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("nothing was installed"), "{error}");
            fs::remove_dir(bin.join(name)).unwrap();
            assert_eq!(listing(&bin), BTreeMap::from([("bridge".into(), "theirs".into())]), "{name}");
        }
    }

    #[test]
    fn a_link_to_a_directory_is_kept_like_any_other() {
        let (root, from, bin) = node();
        symlink(root.path(), bin.join("tuning")).unwrap();
        install(&from, &bin, true).unwrap();
        assert_eq!(fs::read_link(bin.join("tuning")).unwrap(), Path::new(EXECUTABLE));
        uninstall(&bin).unwrap();
        assert_eq!(fs::read_link(bin.join("tuning")).unwrap(), root.path());
    }

    #[test]
    fn a_missing_executable_is_told_before_anything_is_done() {
        let (root, _, bin) = node();
        let error = install(&root.path().join("none"), &bin, true).unwrap_err().to_string();
        assert!(error.contains("--from"), "{error}");
        assert!(listing(&bin).is_empty());
    }

    #[test]
    fn installing_twice_is_installing_once() {
        let (_root, from, bin) = node();
        fs::write(bin.join("bridge"), "theirs").unwrap();
        install(&from, &bin, true).unwrap();
        let once = listing(&bin);
        install(&bin.join(EXECUTABLE), &bin, true).unwrap();
        assert_eq!(listing(&bin), once);
    }

    #[test]
    fn an_upgrade_replaces_the_executable_under_its_links() {
        let (_root, from, bin) = node();
        install(&from, &bin, false).unwrap();
        fs::write(&from, "newer").unwrap();
        install(&from, &bin, false).unwrap();
        assert_eq!(fs::read_to_string(bin.join("zeugma-bridge")).unwrap(), "newer");
    }

    #[test]
    fn uninstall_leaves_a_name_that_a_package_took_back() {
        let (_root, from, bin) = node();
        fs::write(bin.join("bridge"), "theirs").unwrap();
        install(&from, &bin, true).unwrap();
        fs::remove_file(bin.join("bridge")).unwrap();
        fs::write(bin.join("bridge"), "theirs, newer").unwrap();
        uninstall(&bin).unwrap();
        let found = listing(&bin);
        assert_eq!(found["bridge"], "theirs, newer");
        assert_eq!(found["bridge.replaced-by-zeugma"], "theirs");
        assert_eq!(found.len(), 2);
    }
}
