//! Sockets that frames are handed to in place of the stack (AF_XDP), of which each reads one queue of a device.

#![expect(
    unsafe_code,
    reason = "the crate leaves it to its callers that buffers outlive what points to them, and has neither frames in \
              several buffers nor the question for zero copy"
)]

use std::error::Error as _;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use xdp::slab::{HeapSlab, Slab};
use xdp::socket::{SocketError, XdpSocketBuilder};
use xdp::umem::{FrameSize, UmemCfgBuilder};
use xdp::{FillRing, RingConfigBuilder, RxRing, Umem};

/// How many frames are looked at before their buffers are given back.
const BATCH: usize = 64;
/// The kernel wants a ring for what is sent, too.
const COMPLETIONS: u32 = 64;
/// The longest frame of one buffer, in bytes: a page without what the kernel keeps in front of the frame.
pub const ONE_BUFFER: u32 = 4096 - 256;

/// How a socket gets its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// The driver writes them into the socket's buffers.
    pub zero_copy: bool,
    /// Frames may lie in several buffers (Linux 6.6).
    pub several_buffers: bool,
}

/// A socket that is bound to a queue.
pub struct Socket {
    // In this order, so that the buffers are the last to go.
    rx: RxRing,
    fill: FillRing,
    descriptor: XdpSocketBuilder,
    umem: Umem,
    pub queue: u32,
    pub means: Means,
    /// The first buffers of a frame whose last one has not come yet.
    begun: Vec<u8>,
}

impl Socket {
    /// Binds to a queue, with so many buffers, which is a power of two.
    pub fn bind(ifindex: u32, queue: u32, buffers: u32, means: Means) -> io::Result<Self> {
        let mut descriptor = XdpSocketBuilder::new().map_err(errno)?;
        let config = UmemCfgBuilder {
            frame_size: FrameSize::FourK,
            frame_count: buffers,
            ..UmemCfgBuilder::default()
        };
        let mut umem = Umem::map(config.build().map_err(io::Error::other)?)?;
        let rings = RingConfigBuilder {
            rx_count: buffers,
            tx_count: 0,
            fill_count: buffers,
            completion_count: COMPLETIONS,
        };
        let rings = rings.build().map_err(io::Error::other)?;
        let (rings, _) = descriptor.build_rings(&umem, rings).map_err(errno)?;
        let mut fill = rings.fill_ring;
        // SAFETY: the buffers outlive the socket, which is dropped before them, here and in `Socket`.
        unsafe { fill.enqueue(&mut umem, buffers as usize) };
        let missing = || io::Error::other("a socket without a ring");
        let rx = rings.rx_ring.ok_or_else(missing)?;
        bind(&descriptor, ifindex, queue, means)?;
        Ok(Socket {
            rx,
            fill,
            descriptor,
            umem,
            queue,
            means,
            begun: Vec::new(),
        })
    }

    /// Hands over the frames that have come, and gives their buffers back. How many there were.
    pub fn read<E>(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<usize, E> {
        let mut packets = HeapSlab::with_capacity(BATCH);
        // SAFETY: the packets are gone when this returns, and the buffers are not.
        let buffers = unsafe { self.rx.recv(&self.umem, &mut packets) };
        let (mut frames, mut result) = (0, Ok(()));
        while let Some(packet) = packets.pop_back() {
            let (is_last, is_only) = (!packet.is_continued(), self.begun.is_empty());
            if result.is_ok() && is_last && is_only {
                frames += 1;
                result = each(&packet);
            } else if result.is_ok() {
                self.begun.extend_from_slice(&packet);
                if is_last {
                    frames += 1;
                    result = each(&mem::take(&mut self.begun));
                }
            }
            self.umem.free_packet(packet);
        }
        // SAFETY: as in `bind`. The ring has room for all buffers.
        unsafe { self.fill.enqueue(&mut self.umem, buffers) };
        result.map(|()| frames)
    }

    /// Fails once the device has gone.
    pub fn check(&self) -> io::Result<()> {
        match getsockopt(self, sockopt::SocketError)? {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// How many frames it did not take: no buffer was free, its ring was full, or they were too long.
    pub fn lost(&self) -> io::Result<u64> {
        // SAFETY: it has integers only, of which zero is one.
        let mut statistics: libc::xdp_statistics = unsafe { mem::zeroed() };
        let mut length = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, all of which are an integer's, and both outlive the call.
        let result = unsafe {
            libc::getsockopt(
                self.descriptor.as_raw_fd(),
                libc::SOL_XDP,
                libc::XDP_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        Errno::result(result)?;
        Ok(statistics.rx_dropped + statistics.rx_ring_full)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `self` is there.
        unsafe { BorrowedFd::borrow_raw(self.descriptor.as_raw_fd()) }
    }
}

/// What the system call said.
fn errno(error: SocketError) -> io::Error {
    let errno = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .and_then(io::Error::raw_os_error);
    errno.map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error)
}

/// The crate cannot ask for frames in several buffers.
fn bind(socket: &XdpSocketBuilder, ifindex: u32, queue: u32, means: Means) -> io::Result<()> {
    let copies = match means.zero_copy {
        true => libc::XDP_ZEROCOPY,
        false => libc::XDP_COPY,
    };
    let several = match means.several_buffers {
        true => libc::XDP_USE_SG,
        false => 0,
    };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        // `poll` then wakes a driver that waits for buffers, and no driver looks for them all the time.
        sxdp_flags: copies | several | libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the address has this length and outlives the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), length) };
    Ok(Errno::result(result).map(drop)?)
}
