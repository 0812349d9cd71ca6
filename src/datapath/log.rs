//! libbpf's messages: printed with --verbose, and the kernel's own words kept for an error.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use libbpf_rs::{PrintLevel, set_print};

static VERBOSE: AtomicBool = AtomicBool::new(false);
static KERNEL_MESSAGE: Mutex<Option<String>> = Mutex::new(None);

/// How libbpf introduces a netlink extack message.
const KERNEL_SAYS: &str = "Kernel error message: ";

/// Takes libbpf's messages from standard error.
pub fn route(verbose: bool) {
    VERBOSE.store(verbose, Ordering::Relaxed);
    set_print(Some((PrintLevel::Info, receive)));
}

fn receive(_: PrintLevel, message: String) {
    if VERBOSE.load(Ordering::Relaxed) {
        eprint!("{message}");
    }
    if let Some((_, said)) = message.split_once(KERNEL_SAYS)
        && let Ok(mut kept) = KERNEL_MESSAGE.lock()
    {
        *kept = Some(said.trim().to_string());
    }
}

/// The last message of the kernel since the last call.
pub fn take_kernel_message() -> Option<String> {
    KERNEL_MESSAGE.lock().ok()?.take()
}
