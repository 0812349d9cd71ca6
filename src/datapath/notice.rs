//! What is said while a run goes on. The command line listens, and decides what is shown.

use std::sync::OnceLock;

use super::log;

/// Something to say before the run ends.
pub enum Notice {
    /// A line of libbpf's log.
    Libbpf(String),
    /// A sentence for whoever waits for this run or has to act after it.
    Warning(String),
}

static LISTENER: OnceLock<fn(Notice)> = OnceLock::new();

/// Sets who hears of all notices; the first caller wins. A listener must not panic: C code calls it,
/// too.
pub fn listen(listener: fn(Notice)) {
    let _ = LISTENER.set(listener);
    log::take_over();
}

pub(super) fn say(notice: Notice) {
    if let Some(listener) = LISTENER.get() {
        listener(notice);
    }
}
