//! WireGuard devices of this host: nothing is made yet.

use zeugma_kernel::overlay::WireguardDevice;
use zeugma_model::IfName;

/// The devices.
#[derive(Debug, Default)]
pub(super) struct Devices {}

/// A device as it is, and who encrypts.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) device: WireguardDevice,
    /// `kernel` or `userspace`.
    pub(super) implementation: &'static str,
}

impl Devices {
    pub(super) async fn settle(&mut self, device: &WireguardDevice) -> Result<(), String> {
        let _ = device;
        Ok(())
    }

    pub(super) fn view(&self, link: &IfName) -> Option<Seen> {
        let _ = link;
        None
    }
}
