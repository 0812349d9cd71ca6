//! Signals that would end this run half-way.

use anyhow::Result;
use nix::sys::signal::{SigSet, Signal};

/// Ctrl-C and its like wait for as long as this lives.
pub struct Uninterrupted(SigSet);

impl Uninterrupted {
    pub fn new() -> Result<Self> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
            .into_iter()
            .collect();
        signals.thread_block()?;
        Ok(Uninterrupted(signals))
    }
}

impl Drop for Uninterrupted {
    fn drop(&mut self) {
        let _ = self.0.thread_unblock();
    }
}
