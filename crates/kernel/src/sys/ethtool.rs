//! The two questions of ethtool (`SIOCETHTOOL`, linux/ethtool.h) that overlays ask.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Whether the link leaves checksums of packets that it sends to those below it.
pub(crate) fn tx_checksum(name: &str) -> io::Result<bool> {
    Ok(asked(name, Value { command: ETHTOOL_GTXCSUM, data: 0 })?.data != 0)
}

/// Turns that on or off.
pub(crate) fn set_tx_checksum(name: &str, is_on: bool) -> io::Result<()> {
    asked(name, Value { command: ETHTOOL_STXCSUM, data: is_on.into() }).map(drop)
}

fn asked(name: &str, mut value: Value) -> io::Result<Value> {
    // Any socket will do: it says which namespace is meant.
    let socket = UnixDatagram::unbound()?;
    // SAFETY: ifreq is plain old data, for which zeroes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the kernel reads one ifreq at the pointer, and reads and writes the value that it points to; both outlive
    // the call.
    super::succeeded(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) })?;
    Ok(value)
}
