//! What has no safe wrapper: transmitting test runs, tracing programs that are loaded already, a program
//! at tcx, a signal to a thread, and its precedence.

#![expect(unsafe_code, reason = "calls that have no safe form")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use libbpf_rs::libbpf_sys;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

const INTERRUPT: Signal = Signal::SIGUSR1;

/// Frames to a batch; each batch is received before the next one is made.
const BATCH: u32 = 64;

extern "C" fn ignore(_: libc::c_int) {}

/// Lets `interrupt` end a system call instead of the process.
pub fn catch_interrupts() -> nix::Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(ignore),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing, so it is async-signal-safe.
    unsafe { sigaction(INTERRUPT, &action) }.map(drop)
}

pub fn interrupt<T>(thread: &JoinHandle<T>) {
    // SAFETY: a thread that was not joined keeps its pthread_t valid.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), INTERRUPT as libc::c_int) };
}

/// Prefers this thread to all others on its CPU, so that less of what the machine does is measured.
pub fn take_precedence() -> io::Result<()> {
    const HIGHEST: i32 = -20;
    // SAFETY: takes plain numbers; 0 is the calling thread.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, HIGHEST) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs the program over `frame` and transmits as its verdict says, until it is told to end and then
/// interrupted.
pub fn transmit(program: BorrowedFd<'_>, frame: &[u8], end: &AtomicBool) -> io::Result<()> {
    // Test runs end by themselves, too: after `repeat` frames, which are those of a minute or two, and
    // when the kernel wakes the thread for reasons of its own.
    while !end.load(Ordering::Relaxed) {
        let mut opts = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
            data_in: frame.as_ptr().cast(),
            data_size_in: frame.len() as u32,
            repeat: i32::MAX,
            flags: libbpf_sys::BPF_F_TEST_XDP_LIVE_FRAMES,
            batch_size: BATCH,
            ..Default::default()
        };
        // SAFETY: `opts` and the frame that it points to outlive the call.
        let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut opts) };
        match io::Error::last_os_error() {
            _ if result == 0 => {}
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
    Ok(())
}

/// Runs a tracing program for as long as the returned descriptor is open.
pub fn trace(program: BorrowedFd) -> io::Result<OwnedFd> {
    // SAFETY: takes a plain number, and no name, because the program is loaded for its tracepoint.
    // Returns a new descriptor.
    unsafe {
        owned(libbpf_sys::bpf_raw_tracepoint_open(
            ptr::null(),
            program.as_raw_fd(),
        ))
    }
}

/// Runs the program at the ingress of a device of this namespace for as long as the returned
/// descriptor is open. Without a qdisc, which is why it needs Linux 6.6.
pub fn attach_ingress(program: BorrowedFd, ifindex: u32) -> io::Result<OwnedFd> {
    let (program, device) = (program.as_raw_fd(), ifindex as i32);
    // SAFETY: takes plain numbers, and no options. Returns a new descriptor.
    unsafe {
        owned(libbpf_sys::bpf_link_create(
            program,
            device,
            libbpf_sys::BPF_TCX_INGRESS,
            ptr::null(),
        ))
    }
}

/// What a call returned: a descriptor, or a negative number for an error.
///
/// # Safety
///
/// The descriptor is new, so that nobody else owns it.
unsafe fn owned(fd: i32) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as the caller says.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
