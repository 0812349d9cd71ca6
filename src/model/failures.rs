//! What became of redirected frames that did not arrive.

use std::ops::AddAssign;

use serde::Serialize;

/// Frames by why they were lost after the program had redirected them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// The device, or who reads behind it, takes no redirected frames, or none in several buffers.
    pub not_supported: u64,
    /// Longer than the device's MTU.
    pub mtu: u64,
    /// The device or its peer is down.
    pub link_down: u64,
    /// The device went away just then.
    pub no_device: u64,
    /// The device left frames over: its queue was full, or its peer's MTU is smaller.
    pub queue_full: u64,
    pub other: u64,
}

impl AddAssign for Failures {
    fn add_assign(&mut self, other: Self) {
        self.not_supported += other.not_supported;
        self.mtu += other.mtu;
        self.link_down += other.link_down;
        self.no_device += other.no_device;
        self.queue_full += other.queue_full;
        self.other += other.other;
    }
}

impl Failures {
    pub fn total(&self) -> u64 {
        self.not_supported
            + self.mtu
            + self.link_down
            + self.no_device
            + self.queue_full
            + self.other
    }
}
