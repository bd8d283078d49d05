//! WireGuard in user space: a TUN device, UDP sockets and boringtun's protocol between them, in a process of its own.
//!
//! It is told what to do by WireGuard's cross-platform protocol at `/run/wireguard/NAME.sock`, so that wg(8) works with
//! it, too. System calls are the kernel crate's.

use zeugma_model::IfName;

/// How `zeugma wg` is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The TUN device; made where it is missing, and never removed.
    pub link: IfName,
}
