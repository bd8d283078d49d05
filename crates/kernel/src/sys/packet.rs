//! Packet sockets: packet(7). Neither std nor nix can make the addresses that they take.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// An IPv4 packet socket, bound to the link with this index; it receives UDP datagrams to `port` alone.
///
/// It is opened for no protocol at first: nothing arrives before the filter is there.
pub(crate) fn open(index: u32, port: u16) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket(2) takes no pointers.
    let fd = checked(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the descriptor was made right above and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    filter(fd.as_raw_fd(), port)?;
    let address = address(index, [0; 6]);
    // SAFETY: the pointer and length describe `address`, which outlives the call.
    checked(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), LENGTH) })?;
    Ok(fd)
}

/// Sends a packet to an Ethernet address; the kernel makes the frame.
pub(crate) fn send(fd: RawFd, index: u32, to: [u8; 6], packet: &[u8]) -> io::Result<()> {
    let address = address(index, to);
    let (bytes, length) = (packet.as_ptr().cast(), packet.len());
    // SAFETY: the pointers and lengths describe `packet` and `address`, which outlive the call.
    let sent = unsafe { libc::sendto(fd, bytes, length, 0, (&raw const address).cast(), LENGTH) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives a packet; where its frame came from.
pub(crate) fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<(usize, [u8; 6])> {
    let mut from = address(0, [0; 6]);
    let mut length = LENGTH;
    let (bytes, room) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the pointers and lengths describe `buffer` and `from`, which outlive the call; `length` is theirs.
    let read = unsafe { libc::recvfrom(fd, bytes, room, 0, (&raw mut from).cast(), &raw mut length) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    let [a, b, c, d, e, f, ..] = from.sll_addr;
    Ok((read, [a, b, c, d, e, f]))
}

const LENGTH: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

fn address(index: u32, mac: [u8; 6]) -> libc::sockaddr_ll {
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&mac);
    address
}

/// Lets UDP datagrams to `port` pass that are no later fragments (classic BPF, offsets from the IPv4 header).
fn filter(fd: RawFd, port: u16) -> io::Result<()> {
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const LOAD_HALF_BEHIND: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16;
    const HEADER_LENGTH: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const IF_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const UDP: u32 = 17;
    const OFFSET: u32 = 0x1fff;
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(LOAD_BYTE, 9, 0, 0),
        step(IF_EQUAL, UDP, 0, 6),
        step(LOAD_HALF, 6, 0, 0),
        step(IF_SET, OFFSET, 4, 0),
        step(HEADER_LENGTH, 0, 0, 0),
        step(LOAD_HALF_BEHIND, 2, 0, 0),
        step(IF_EQUAL, port.into(), 0, 1),
        step(RETURN, u32::MAX, 0, 0),
        step(RETURN, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as libc::c_ushort, filter: steps.as_mut_ptr() };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: `program` describes `steps`; both outlive the call, and the kernel copies them.
    checked(unsafe { libc::setsockopt(fd, level, option, (&raw const program).cast(), length) }).map(drop)
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
