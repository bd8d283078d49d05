//! The initramfs: all that the virtual machine knows. The lists below are what a new test may have to extend.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::Test;
use super::kernel::Kernel;
use crate::{elf, shell};

/// Modules that the tests use, without what those need in turn. All are loaded at the start: the machine has no
/// modprobe.
const MODULES: [&str; 28] = [
    "8021q",
    "br_netfilter",
    "bridge",
    "dummy",
    "ipvlan",
    "macvlan",
    "nf_conntrack_bridge",
    "nf_conntrack_netlink",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib_inet",
    "nft_masq",
    "nft_meta_bridge",
    "nft_nat",
    "nft_numgen",
    "nft_redir",
    "nft_reject_inet",
    "overlay",
    "sctp",
    "sctp_diag",
    "tcp_diag",
    "tun",
    "udp_diag",
    "veth",
    "vrf",
    "vxlan",
    "wireguard",
];

/// Programs that the tests call: oracles, and what `netns-fixtures` uses.
const PROGRAMS: [&str; 8] = ["bridge", "conntrack", "ip", "nft", "ping", "setpriv", "tc", "wg"];

/// Files that programs read, where the machine that builds has them.
const TABLES: [&str; 3] = ["/etc/protocols", "/etc/services", "/etc/iproute2/rt_tables"];

/// An initramfs as a directory, growing.
pub(super) struct Image {
    root: PathBuf,
}

impl Image {
    /// An empty one, in `target`.
    pub(super) fn begin(target: &Path) -> Result<Image> {
        let root = target.join("root");
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("clear {}", root.display()))?;
        }
        for dir in ["bin", "modules", "cni", "tests", "etc"] {
            fs::create_dir_all(root.join(dir))?;
        }
        Ok(Image { root })
    }

    /// The first process, programs and their tables.
    pub(super) fn with_system(self, init: &Path) -> Result<Image> {
        self.add_executable(init, "init")?;
        for name in PROGRAMS {
            let program = shell::which(name).with_context(|| format!("{name} is not installed"))?;
            self.add_executable(&program, &format!("bin/{name}"))?;
        }
        for table in TABLES.map(Path::new).iter().filter(|table| table.is_file()) {
            self.copy(table, table)?;
        }
        Ok(self)
    }

    /// The modules of `kernel`, named so that their order is the order of loading.
    pub(super) fn with_modules(self, kernel: &Kernel) -> Result<Image> {
        for (number, file) in kernel.modules(&MODULES)?.iter().enumerate() {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let stem = name.split(".ko").next().unwrap_or_default();
            fs::write(self.root.join(format!("modules/{number:03}-{stem}.ko")), unpacked(file)?)?;
        }
        Ok(self)
    }

    /// The executables under test with all their names.
    pub(super) fn with_plugins(self, bin_dir: &Path) -> Result<Image> {
        for entry in fs::read_dir(bin_dir).with_context(|| format!("list {}", bin_dir.display()))? {
            let (file, name) =
                (entry.as_ref().map(fs::DirEntry::path), entry.as_ref().map(fs::DirEntry::file_name));
            let (Ok(file), Ok(name)) = (file, name) else { continue };
            let copy = self.root.join("cni").join(name);
            match fs::read_link(&file) {
                Ok(to) if to.is_relative() => symlink(to, copy)?,
                _ => drop(fs::copy(&file, copy)?),
            }
        }
        Ok(self)
    }

    /// The reference's plugins for which the machine is needed, with what these call, from Debian's package.
    pub(super) fn with_reference(self) -> Result<Image> {
        let names = ["bridge", "host-local", "ipvlan", "vlan", "vrf"];
        fs::create_dir_all(self.root.join("reference"))?;
        for name in names {
            let file = Path::new("/usr/lib/cni").join(name);
            self.add_executable(&file, &format!("reference/{name}"))?;
        }
        Ok(self)
    }

    /// The test binaries, and the plan: which of them run, with what arguments.
    pub(super) fn with_tests(self, tests: &[Test], filter: Option<&str>) -> Result<Image> {
        // The output of tests that pass tells when one of them stood aside.
        let arguments = format!("--color=never --show-output {}", filter.unwrap_or_default());
        let mut plan = String::new();
        for Test { name, file } in tests {
            self.add_executable(file, &format!("tests/{name}"))?;
            plan += &format!("{name} {}\n", arguments.trim_end());
        }
        fs::write(self.root.join("plan"), plan)?;
        Ok(self)
    }

    /// The archive as the kernel takes it. It is not compressed: emulated, that would take longer than it saves.
    pub(super) fn packed(self) -> Result<PathBuf> {
        let archive = self.root.with_file_name("initramfs");
        let mut names = Vec::new();
        list(&self.root, Path::new(""), &mut names)?;
        let mut cpio = Command::new("cpio");
        cpio.args(["--quiet", "--create", "--format", "newc", "--owner", "0:0"]).current_dir(&self.root);
        let stdout = fs::File::create(&archive)?;
        let mut cpio = cpio.stdin(Stdio::piped()).stdout(stdout).spawn().context("cannot start cpio")?;
        let mut stdin = cpio.stdin.take().expect("stdin was piped the line above");
        stdin.write_all((names.join("\n") + "\n").as_bytes())?;
        drop(stdin);
        let status = cpio.wait()?;
        ensure!(status.success(), "cpio: {status}");
        Ok(archive)
    }

    /// A stripped copy of an executable, and the libraries that it is linked with at their own paths.
    fn add_executable(&self, file: &Path, name: &str) -> Result<()> {
        let copy = self.root.join(name);
        shell::read(Command::new("strip").arg("-o").arg(&copy).arg(file))?;
        if elf::is_static(file)? {
            return Ok(());
        }
        let shown = shell::read(Command::new("ldd").arg(file))?;
        for library in libraries(&shown).with_context(|| format!("libraries of {}", file.display()))? {
            self.copy(&library, &library)?;
        }
        Ok(())
    }

    /// Copies what `file` is or leads to, once.
    fn copy(&self, file: &Path, absolute: &Path) -> Result<()> {
        let copy = self.root.join(absolute.strip_prefix("/").context("a path is not absolute")?);
        if copy.exists() {
            return Ok(());
        }
        fs::create_dir_all(copy.parent().context("a path has no parent")?)?;
        fs::copy(file, &copy).with_context(|| format!("copy {}", file.display())).map(drop)
    }
}

/// From `libc.so.6 => /lib/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn libraries(shown: &str) -> Result<BTreeSet<PathBuf>> {
    if let Some(line) = shown.lines().find(|line| line.contains("not found")) {
        bail!("{}", line.trim());
    }
    let paths = shown.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

/// A module's bytes as the kernel loads them.
fn unpacked(module: &Path) -> Result<Vec<u8>> {
    match module.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => Ok(fs::read(module)?),
        Some("xz") => {
            let output = Command::new("xz").arg("-dc").arg(module).output().context("cannot start xz")?;
            ensure!(output.status.success(), "xz -dc {}: {}", module.display(), output.status);
            Ok(output.stdout)
        }
        _ => bail!("{} is compressed in a way that is not known here", module.display()),
    }
}

/// Everything below `root`, directories before what is in them, as cpio wants it.
fn list(root: &Path, below: &Path, names: &mut Vec<String>) -> Result<()> {
    let mut entries = fs::read_dir(root.join(below))?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = below.join(entry.file_name());
        names.push(name.to_str().context("a file's name is not UTF-8")?.to_owned());
        if entry.file_type()?.is_dir() {
            list(root, &name, names)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_come_along() {
        let shown =
            "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld.so.2 (0x7f)\n";
        let found: Vec<_> = libraries(shown).unwrap().into_iter().collect();
        assert_eq!(found, ["/lib/libc.so.6", "/lib64/ld.so.2"].map(PathBuf::from));
    }

    #[test]
    fn a_library_that_is_missing_is_an_error() {
        let error = libraries("\tlibmnl.so.0 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libmnl.so.0"), "{error}");
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("b/c")).unwrap();
        fs::write(dir.path().join("a"), "").unwrap();
        let mut names = Vec::new();
        list(dir.path(), Path::new(""), &mut names).unwrap();
        assert_eq!(names, ["a", "b", "b/c"]);
    }
}
