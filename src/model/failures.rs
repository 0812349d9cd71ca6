//! What became of redirected frames that did not arrive.

use std::ops::AddAssign;

use serde::Serialize;

use super::Remedy;

/// Frames by why they were lost after the program had redirected them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// The device, or who reads behind it, takes no redirected frames, none in several buffers, or
    /// none on that CPU.
    pub not_supported: u64,
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

/// Why frames are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    NotSupported,
    Mtu,
    LinkDown,
    NoDevice,
    QueueFull,
    Other,
}

/// Frames that were lost at a device for one reason, in words.
pub struct Reason {
    pub loss: Loss,
    pub frames: u64,
    pub why: &'static str,
    pub remedy: Remedy,
}
