//! What became of redirected frames that did not arrive.

use std::ops::AddAssign;

use serde::Serialize;

/// Frames by why they were lost after the program had redirected them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// The device, or who reads behind it, takes no redirected frames, none in several buffers, or
    /// none on that CPU.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    NotSupported,
    Mtu,
    LinkDown,
    NoDevice,
    QueueFull,
    Other,
}

/// Why frames were lost, in words.
pub struct Reason {
    pub loss: Loss,
    pub frames: u64,
    pub why: &'static str,
    pub mend: String,
}

impl Failures {
    /// All reasons, of frames lost at a device.
    pub fn reasons(&self, device: &str) -> [Reason; 6] {
        let reason = |loss, frames, why, mend: &str| Reason {
            loss,
            frames,
            why,
            mend: mend.into(),
        };
        [
            reason(
                Loss::NotSupported,
                self.not_supported,
                "it, or its peer, takes no redirected frames",
                "GRO on at a veth's peer, or a native program on a NIC (`xdpredir doctor` names it), or attach with --mode skb",
            ),
            reason(
                Loss::Mtu,
                self.mtu,
                "longer than its MTU",
                "raise it, or lower the senders'",
            ),
            reason(
                Loss::LinkDown,
                self.link_down,
                "it or its peer is down",
                &format!("`ip link set dev {device} up`, and the same at a veth's peer"),
            ),
            reason(
                Loss::NoDevice,
                self.no_device,
                "it went away",
                "`rule add` the backend again",
            ),
            reason(
                Loss::QueueFull,
                self.queue_full,
                "its queue was full, or its peer's MTU is smaller",
                "a faster reader, or the same MTU at both ends",
            ),
            reason(
                Loss::Other,
                self.other,
                "for a reason that is not listed",
                "the kernel's tracepoint xdp:xdp_redirect_err has its number",
            ),
        ]
    }
}
