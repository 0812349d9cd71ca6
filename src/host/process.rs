//! This process.

use super::sys;

/// When the reader of standard output goes away, so does this run, without a word.
pub fn die_quietly_on_closed_pipe() {
    sys::default_sigpipe();
}
