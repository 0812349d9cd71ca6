//! The system calls that no crate wraps.

#![expect(unsafe_code, reason = "calls that nix has no safe form of")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::{getsockopt_impl, libc, sockopt_impl};

/// Linux uapi: linux/ethtool.h. The commands that go with a struct ethtool_value.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum EthtoolValue {
    GetTxChecksum = 0x16,
    GetTso = 0x1e,
    GetGso = 0x23,
    GetFlags = 0x25,
    GetGro = 0x2b,
    SetGro = 0x2c,
}

const ETHTOOL_GDRVINFO: u32 = 3;

/// Linux uapi: struct ethtool_drvinfo.
#[repr(C)]
pub struct Drvinfo {
    command: u32,
    pub driver: [u8; 32],
    versions: [[u8; 32]; 2],
    pub bus_info: [u8; 32],
    rest: [u8; 64],
}

// The kernel writes as many bytes as its own struct has.
const _: () = assert!(size_of::<Drvinfo>() == 196);

nix::ioctl_readwrite_bad!(siocethtool, libc::SIOCETHTOOL, libc::ifreq);
sockopt_impl!(
    /// A socket's network namespace, until the next boot (Linux 5.14).
    NetnsCookie, GetOnly, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, u64
);

/// Gets a value of a device, or sets it; returns what the kernel left there.
pub fn ethtool_value(
    socket: &OwnedFd,
    name: &str,
    command: EthtoolValue,
    value: u32,
) -> io::Result<u32> {
    let mut data = [command as u32, value];
    // SAFETY: for these commands the kernel reads and writes the two words of `data`.
    unsafe { ethtool(socket, name, data.as_mut_ptr().cast()) }?;
    Ok(data[1])
}

pub fn ethtool_drvinfo(socket: &OwnedFd, name: &str) -> io::Result<Drvinfo> {
    let mut info = Drvinfo {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        versions: [[0; 32]; 2],
        bus_info: [0; 32],
        rest: [0; 64],
    };
    // SAFETY: for this command the kernel writes a struct ethtool_drvinfo, which `info` is.
    unsafe { ethtool(socket, name, (&raw mut info).cast()) }?;
    Ok(info)
}

/// # Safety
/// `data` is what the kernel reads and writes for the command in its first word.
unsafe fn ethtool(socket: &OwnedFd, name: &str, data: *mut libc::c_char) -> io::Result<()> {
    // SAFETY: ifreq is plain old data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte is left for the terminating zero. Part of a name could be the name of another device.
    let last = request.ifr_name.len() - 1;
    if name.len() > last {
        return Err(io::ErrorKind::NotFound.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = data;
    // SAFETY: `request` and, as the caller promises, `data` outlive the call and have their sizes.
    unsafe { siocethtool(socket.as_raw_fd(), &raw mut request) }?;
    Ok(())
}

/// Has a packet socket take the frames of a protocol that come to a device, and send by that device.
pub fn bind_packet_socket(socket: &OwnedFd, protocol: u16, ifindex: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain old data.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex as i32;
    let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel reads a sockaddr_ll, which outlives the call and has that size.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    Errno::result(result)?;
    Ok(())
}

/// When the reader of standard output goes away, so does this run, without a word. Rust ignores
/// SIGPIPE, so that `| head` would end in a panic.
pub fn default_sigpipe() {
    // SAFETY: no handler is installed, only the default action.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
