//! Frames that a capture has seen.

use std::net::IpAddr;
use std::time::SystemTime;

use super::Loss;

/// Where a frame was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    Arrived,
    Left,
    /// By the kernel, after it had left.
    Lost,
}

impl Stage {
    pub const ALL: [Stage; 3] = [Stage::Arrived, Stage::Left, Stage::Lost];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Arrived => "arrived",
            Stage::Left => "left",
            Stage::Lost => "lost",
        }
    }
}

/// A frame at one stage, and what was decided for it.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub time: SystemTime,
    /// Of its packet, counted from 1: the same at all stages.
    pub packet: u64,
    pub stage: Stage,
    /// The interface where it arrived.
    pub ingress: String,
    /// The device by which it left; None: it did not leave.
    pub egress: Option<String>,
    pub outcome: &'static str,
    /// The XDP action that comes with it.
    pub action: &'static str,
    /// The match of the rule that took it, in words.
    pub rule: Option<String>,
    /// The backend that it was for.
    pub server: Option<IpAddr>,
    /// Of a lost frame.
    pub loss: Option<(Loss, Option<String>)>,
    /// The first bytes of the frame.
    pub bytes: Vec<u8>,
    /// How many it has.
    pub len: usize,
}

impl Sighting {
    /// The device at which it was seen.
    pub fn device(&self) -> &str {
        match (self.stage, &self.egress) {
            (Stage::Left | Stage::Lost, Some(egress)) => egress,
            _ => &self.ingress,
        }
    }
}
