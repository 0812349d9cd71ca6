//! libbpf calls that libbpf-rs has no safe form of.

#![expect(
    unsafe_code,
    reason = "calls that libbpf-rs and nix have no safe form of"
)]

use std::ffi::{CString, c_void};
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU64;

use anyhow::Result;
use libbpf_rs::{MapCore, MapHandle, MapType, XdpFlags, libbpf_sys};
use nix::libc;
#[cfg(test)]
use nix::sys::mman::mmap_anonymous;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::abi::Plain;
use super::bpffs::At;
use crate::host::kernel;

/// Linux uapi: linux/membarrier.h. Since 4.3; on return every CPU has left its RCU read section.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// How many programs a device has at a hook of tcx, at most (linux/bpf_mprog.h).
const MAX_TCX: usize = 64;

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::from_raw_os_error(-result))
    } else {
        Ok(result)
    }
}

/// Attaches an XDP program for as long as the returned link or a pin of it exists (Linux 5.9).
pub fn xdp_link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    flags: XdpFlags,
) -> io::Result<OwnedFd> {
    link_create(program, ifindex, libbpf_sys::BPF_XDP, flags.bits())
}

/// Attaches a tc program in the same way, behind those that are there already (Linux 6.6).
pub fn tcx_link_create(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    link_create(program, ifindex, libbpf_sys::BPF_TCX_INGRESS, 0)
}

fn link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    hook: libbpf_sys::bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    opts.flags = flags;
    // SAFETY: the descriptor is open, and `opts` outlives the call.
    let fd = check(unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex as i32, hook, &raw const opts)
    })?;
    // SAFETY: libbpf returned a new descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has a link attach another program, in one step (Linux 5.9; at the tc hook 6.6).
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let (link, program) = (link.as_raw_fd(), program.as_raw_fd());
    // SAFETY: the descriptors are open, and there are no options.
    check(unsafe { libbpf_sys::bpf_link_update(link, program, std::ptr::null()) }).map(drop)
}

/// A link, whoever holds it.
pub fn link_by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer.
    let fd = check(unsafe { libbpf_sys::bpf_link_get_fd_by_id(id) })?;
    // SAFETY: libbpf returned a new descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Detaches what a link attaches (Linux 5.10).
pub fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    check(unsafe { libbpf_sys::bpf_link_detach(link.as_raw_fd()) }).map(drop)
}

pub fn pin(object: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is NUL-terminated and outlives the call; the descriptor is open.
    check(unsafe { libbpf_sys::bpf_obj_pin(object.as_raw_fd(), name.as_ptr()) })
        .map(drop)
        .at("cannot pin", path)
}

/// The programs on a device.
#[derive(Clone, Copy, Debug)]
pub struct XdpState {
    pub native_program: u32,
    pub skb_program: u32,
    pub hardware_program: u32,
}

pub fn xdp_query(ifindex: u32) -> io::Result<XdpState> {
    let mut opts = libbpf_sys::bpf_xdp_query_opts {
        sz: size_of::<libbpf_sys::bpf_xdp_query_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    // SAFETY: `opts` carries its own size and outlives the call.
    check(unsafe { libbpf_sys::bpf_xdp_query(ifindex as i32, 0, &raw mut opts) })?;
    let mut state = XdpState {
        native_program: opts.drv_prog_id,
        skb_program: opts.skb_prog_id,
        hardware_program: opts.hw_prog_id,
    };
    // With a program in one mode only, the kernel may name it in prog_id alone.
    if opts.prog_id != 0 && state.programs().is_empty() {
        match u32::from(opts.attach_mode) {
            libbpf_sys::XDP_ATTACHED_SKB => state.skb_program = opts.prog_id,
            libbpf_sys::XDP_ATTACHED_HW => state.hardware_program = opts.prog_id,
            _ => state.native_program = opts.prog_id,
        }
    }
    Ok(state)
}

/// Whether this kernel has links of tc programs. Who may not ask it goes by its version.
pub fn knows_tcx(ifindex: u32) -> bool {
    match tcx_query(ifindex) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => kernel::is_at_least(6, 6),
        asked => !asked.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)),
    }
}

/// The tc programs that run on arrival at a device, but for those of filters (Linux 6.6).
pub fn tcx_query(ifindex: u32) -> io::Result<Vec<u32>> {
    let mut programs = [0u32; MAX_TCX];
    let mut count = programs.len() as u32;
    // SAFETY: the kernel writes at most `count` numbers, and both outlive the call.
    check(unsafe {
        libbpf_sys::bpf_prog_query(
            ifindex as i32,
            libbpf_sys::BPF_TCX_INGRESS,
            0,
            null_mut(),
            programs.as_mut_ptr(),
            &raw mut count,
        )
    })?;
    Ok(programs[..count as usize].to_vec())
}

impl XdpState {
    pub fn programs(&self) -> Vec<u32> {
        [self.native_program, self.skb_program, self.hardware_program]
            .into_iter()
            .filter(|&id| id != 0)
            .collect()
    }
}

/// Takes off a program that netlink has attached. The error has the errno, unlike that of `libbpf_rs::Xdp`.
pub fn netlink_detach(ifindex: u32, flags: XdpFlags) -> io::Result<()> {
    // SAFETY: no options.
    check(unsafe { libbpf_sys::bpf_xdp_detach(ifindex as i32, flags.bits(), std::ptr::null()) })
        .map(drop)
}

/// Has netlink attach a program, or none, in the place of another one, in one step (Linux 5.7). An error where the
/// other one is not there, or where a link holds it (EBUSY).
pub fn netlink_replace(
    ifindex: u32,
    flags: XdpFlags,
    old: BorrowedFd<'_>,
    new: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let opts = libbpf_sys::bpf_xdp_attach_opts {
        sz: size_of::<libbpf_sys::bpf_xdp_attach_opts>() as libbpf_sys::size_t,
        old_prog_fd: old.as_raw_fd(),
        ..Default::default()
    };
    let new = new.map_or(-1, |new| new.as_raw_fd());
    // SAFETY: the descriptors are open, and `opts` outlives the call.
    let result =
        unsafe { libbpf_sys::bpf_xdp_attach(ifindex as i32, new, flags.bits(), &raw const opts) };
    check(result).map(drop)
}

/// Waits until no packet is in a program with what was looked up before the call. What is freed or
/// used again after it could otherwise send a packet to another rule's backend.
///
/// The kernel promises a memory barrier on all CPUs; that it waits for an RCU grace period, and hence
/// for all XDP programs, is how it does so (`synchronize_rcu` in kernel/sched/membarrier.c). With one
/// CPU online it returns at once: no program is half-way there while this process runs, but with
/// PREEMPT_RT.
pub fn wait_for_readers() {
    // SAFETY: the command takes no pointer.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result != 0 {
        // Refused with nohz_full; no packet stays in a program for this long.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The values of an array map with `BPF_F_MMAPABLE` (Linux 5.5), as the program has them.
pub struct Words {
    start: NonNull<c_void>,
    count: usize,
}

impl Words {
    pub fn map(map: &MapHandle) -> io::Result<Self> {
        let size = map.value_size() as usize;
        if map.map_type() != MapType::Array || !size.is_multiple_of(WORD) {
            return Err(unexpected("not an array of 64-bit words"));
        }
        let bytes = map.max_entries() as usize * size;
        let bytes = NonZeroUsize::new(bytes).ok_or_else(|| unexpected("an empty map"))?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, map.as_fd(), 0) }?;
        let count = bytes.get() / WORD;
        Ok(Words { start, count })
    }

    /// Zeroed memory of this process, for tests.
    #[cfg(test)]
    pub fn anonymous(count: usize) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(count * WORD).ok_or_else(|| unexpected("nothing"))?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { mmap_anonymous(None, bytes, access, MapFlags::MAP_PRIVATE) }?;
        Ok(Words { start, count })
    }
}

const WORD: usize = size_of::<AtomicU64>();

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is that long (an array map's values lie side by side, each a multiple of
        // 8 bytes), starts at a page, and lives as long as `self`. Any bytes are an integer.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.count) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference into the mapping any more.
        let _ = unsafe { munmap(self.start, self.count * WORD) };
    }
}

/// Where a walk over a hash map is.
#[derive(Default)]
pub struct Cursor {
    bucket: Option<u32>,
    pub done: bool,
}

/// The next entries of a hash map, as many as whole buckets fit `keys` and `values`; how many
/// (Linux 5.6). Done or not, there may be none.
pub fn lookup_batch<K: Plain, V: Plain>(
    map: &MapHandle,
    cursor: &mut Cursor,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<usize> {
    let there = [map.key_size(), map.value_size()].map(|size| size as usize);
    let is_hash = matches!(map.map_type(), MapType::Hash | MapType::LruHash);
    if there != [size_of::<K>(), size_of::<V>()] || !is_hash {
        return Err(unexpected("not a hash map with entries of this size"));
    }
    let mut count = keys.len().min(values.len()) as u32;
    let mut next = 0u32;
    let bucket = match &mut cursor.bucket {
        Some(bucket) => std::ptr::from_mut(bucket),
        None => null_mut(),
    };
    // SAFETY: the kernel writes at most `count` keys and values, whose sizes are those of the map,
    // and any bytes are a Plain value; a hash map's cursor is a u32.
    let result = unsafe {
        libbpf_sys::bpf_map_lookup_batch(
            map.as_fd().as_raw_fd(),
            bucket.cast(),
            (&raw mut next).cast(),
            keys.as_mut_ptr().cast(),
            values.as_mut_ptr().cast(),
            &raw mut count,
            std::ptr::null(),
        )
    };
    cursor.bucket = Some(next);
    match check(result) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => cursor.done = true,
        Err(error) => return Err(error),
    }
    Ok(count as usize)
}
