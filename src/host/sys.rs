//! The system calls that no crate wraps.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};

/// Linux uapi: asm-generic/socket.h.
const SO_NETNS_COOKIE: libc::c_int = 71;
/// Linux uapi: linux/ethtool.h, struct ethtool_value.
const ETHTOOL_GTXCSUM: u32 = 0x16;

nix::ioctl_readwrite_bad!(siocethtool, libc::SIOCETHTOOL, libc::ifreq);

/// The cookie of the socket's network namespace: unique until the next boot (Linux 5.14).
pub fn netns_cookie(socket: &OwnedFd) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether the device completes L4 checksums on transmission, as `ethtool -k` has it.
pub fn tx_checksum(socket: &OwnedFd, name: &str) -> io::Result<bool> {
    let mut value = [ETHTOOL_GTXCSUM, 0];
    // SAFETY: ifreq is plain old data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let last = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..last].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: for this command the kernel reads and writes the two words of `value`, which outlives
    // the call.
    unsafe { siocethtool(socket.as_raw_fd(), &raw mut request) }?;
    Ok(value[1] != 0)
}

/// When the reader of standard output goes away, so does this run, without a word. Rust ignores
/// SIGPIPE, so that `| head` would end in a panic.
pub fn default_sigpipe() {
    // SAFETY: no handler is installed, only the default action.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
