//! Devices as sysfs shows them: which interfaces a device has, who drives it, where an interface is plugged in.
//!
//! It reads names and follows links below a root, which is `/sys` but in tests. What is below `net` belongs to the
//! network namespace that sysfs was mounted in: the host's.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use zeugma_model::IfName;

use crate::LinkState;

/// sysfs(5), mounted somewhere.
#[derive(Debug, Clone)]
pub struct Sysfs {
    root: PathBuf,
}

/// A bus whose devices have names of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// PCI: `0000:03:00.1`.
    Pci,
    /// The auxiliary bus, for parts of a device: `mlx5_core.sf.4`.
    Auxiliary,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self::at(Path::new("/sys"))
    }
}

impl Sysfs {
    /// The tree at `root`.
    pub fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// Whether a bus has the device.
    pub fn has(&self, bus: Bus, device: &str) -> bool {
        self.device(bus, device).exists()
    }

    /// The interfaces of a device on a bus, by name. Those of a virtio device are one folder further down.
    ///
    /// # Errors
    /// When the device has no interfaces: it is missing, or its driver makes none.
    pub fn interfaces_of(&self, bus: Bus, device: &str) -> io::Result<Vec<IfName>> {
        let folder = self.device(bus, device);
        match interfaces_in(&folder.join("net")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let virtio = entries(&folder)?.into_iter().find(|name| name.starts_with("virtio"));
                virtio.map_or(Err(error), |name| interfaces_in(&folder.join(name).join("net")))
            }
            found => found,
        }
    }

    /// The interfaces of the device with this folder, written as `/sys/devices/…`.
    ///
    /// # Errors
    /// When the device has no interfaces.
    pub fn interfaces_at(&self, folder: &Path) -> io::Result<Vec<IfName>> {
        let below = folder.strip_prefix("/sys").unwrap_or(folder);
        interfaces_in(&self.root.join(below).join("net"))
    }

    /// The name of a PCI device's driver; none when it has none.
    pub fn driver(&self, device: &str) -> Option<String> {
        let driver = fs::canonicalize(self.device(Bus::Pci, device).join("driver")).ok()?;
        Some(driver.file_name()?.to_str()?.to_owned())
    }

    /// The PCI address of an interface, or of the device that it is a part of. None for virtual interfaces, and
    /// where sysfs shows another namespace's: then index or address differ.
    pub fn pci_address(&self, name: &IfName, state: &LinkState) -> Option<String> {
        let folder = self.root.join("class/net").join(name.as_str());
        let says = |file: &str| fs::read_to_string(folder.join(file)).ok().map(|text| text.trim().to_owned());
        let is_it = says("ifindex")? == state.index.to_string()
            && state.mac.is_none_or(|mac| says("address").is_some_and(|text| text == mac.to_string()));
        let device = fs::canonicalize(folder.join("device")).ok().filter(|_| is_it)?;
        device.components().filter_map(pci_address).next_back().map(str::to_owned)
    }

    fn device(&self, bus: Bus, device: &str) -> PathBuf {
        let bus = match bus {
            Bus::Pci => "bus/pci/devices",
            Bus::Auxiliary => "bus/auxiliary/devices",
        };
        self.root.join(bus).join(device)
    }
}

fn interfaces_in(folder: &Path) -> io::Result<Vec<IfName>> {
    Ok(entries(folder)?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// The names in a folder, sorted.
fn entries(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let mut names: Vec<String> =
        entries.iter().filter_map(|entry| entry.file_name().to_str().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}

/// `domain:bus:device.function` in hex, the domain of four digits or more.
fn pci_address<'a>(part: Component<'a>) -> Option<&'a str> {
    let text = OsStr::to_str(part.as_os_str())?;
    let (rest, function) = text.rsplit_once('.')?;
    let parts: Vec<&str> = rest.split(':').chain([function]).collect();
    let is_hex = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    (parts.len() == 4 && parts.iter().all(is_hex)).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use zeugma_model::Mac;

    /// A NIC with two ports, the second with a virtual and a sub-function; a virtio NIC; one that DPDK drives.
    fn tree() -> (tempfile::TempDir, Sysfs) {
        let root = tempfile::tempdir().unwrap();
        let bridge = root.path().join("devices/pci0000:00/0000:00:02.0");
        let parts = [
            ("0000:03:00.0", "pci", "0000:03:00.0/net/ens3f0"),
            ("0000:03:00.1", "pci", "0000:03:00.1/net/ens3f1"),
            ("0000:03:02.0", "pci", "0000:03:02.0/net/ens3f1v0"),
            ("mlx5_core.sf.4", "auxiliary", "0000:03:00.1/mlx5_core.sf.4/net/ens3f1s4"),
            ("0000:04:00.0", "pci", "0000:04:00.0/virtio1/net/eth0"),
            ("0000:05:00.0", "pci", "0000:05:00.0/vfio-dev/vfio0"),
        ];
        for (device, bus, leaf) in parts {
            let leaf = bridge.join(leaf);
            fs::create_dir_all(&leaf).unwrap();
            let folder = leaf.ancestors().find(|folder| folder.ends_with(device)).unwrap();
            let devices = root.path().join("bus").join(bus).join("devices");
            fs::create_dir_all(&devices).unwrap();
            symlink(folder, devices.join(device)).unwrap();
            if let Some(interface) = leaf.to_str().unwrap().contains("/net/").then_some(&leaf) {
                let class = root.path().join("class/net");
                fs::create_dir_all(&class).unwrap();
                symlink(interface, class.join(interface.file_name().unwrap())).unwrap();
                symlink(interface.parent().unwrap().parent().unwrap(), interface.join("device")).unwrap();
                fs::write(interface.join("ifindex"), "7\n").unwrap();
                fs::write(interface.join("address"), "02:00:00:00:00:07\n").unwrap();
            }
        }
        let driver = root.path().join("bus/pci/drivers/vfio-pci");
        fs::create_dir_all(&driver).unwrap();
        symlink(driver, bridge.join("0000:05:00.0/driver")).unwrap();
        let sysfs = Sysfs::at(root.path());
        (root, sysfs)
    }

    fn interfaces(bus: Bus, device: &str) -> String {
        let (_root, sysfs) = tree();
        let names = sysfs.interfaces_of(bus, device).unwrap_or_default();
        names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn devices_of_every_make_have_their_interfaces() {
        assert_eq!(interfaces(Bus::Pci, "0000:03:00.0"), "ens3f0");
        assert_eq!(interfaces(Bus::Pci, "0000:03:02.0"), "ens3f1v0");
        assert_eq!(interfaces(Bus::Pci, "0000:04:00.0"), "eth0");
        assert_eq!(interfaces(Bus::Auxiliary, "mlx5_core.sf.4"), "ens3f1s4");
        assert_eq!(interfaces(Bus::Pci, "0000:05:00.0"), "");
        assert_eq!(interfaces(Bus::Pci, "0000:09:00.0"), "");
    }

    #[test]
    fn a_folder_of_the_kernel_s_has_its_interfaces() {
        let (_root, sysfs) = tree();
        let folder = Path::new("/sys/devices/pci0000:00/0000:00:02.0/0000:03:00.1");
        assert_eq!(sysfs.interfaces_at(folder).unwrap(), ["ens3f1".parse().unwrap()]);
        assert!(sysfs.interfaces_at(Path::new("/sys/devices/none")).is_err());
    }

    #[test]
    fn a_device_that_dpdk_drives_is_known_by_its_driver() {
        let (_root, sysfs) = tree();
        assert_eq!(sysfs.driver("0000:05:00.0").as_deref(), Some("vfio-pci"));
        assert_eq!(sysfs.driver("0000:03:00.0"), None);
        assert!(sysfs.has(Bus::Auxiliary, "mlx5_core.sf.4") && !sysfs.has(Bus::Pci, "mlx5_core.sf.4"));
    }

    #[test]
    fn an_interface_has_the_pci_address_next_above_it() {
        let (_root, sysfs) = tree();
        let state = LinkState { index: 7, mac: Some(Mac([2, 0, 0, 0, 0, 7])), ..LinkState::default() };
        let address = |name: &str| sysfs.pci_address(&name.parse().unwrap(), &state);
        assert_eq!(address("ens3f1s4").as_deref(), Some("0000:03:00.1"));
        assert_eq!(address("ens3f1v0").as_deref(), Some("0000:03:02.0"));
        assert_eq!(address("eth0").as_deref(), Some("0000:04:00.0"));
        assert_eq!(address("lo"), None);
        let other = LinkState { index: 8, ..state.clone() };
        assert_eq!(sysfs.pci_address(&"eth0".parse().unwrap(), &other), None);
    }
}
