//! What becomes of the packets that a rule takes.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Mac;

/// What becomes of the packets that a rule takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    /// They are rewritten for one of the rule's backends, and sent to it.
    #[default]
    Redirect,
    /// They leave by a device, as they are.
    Forward {
        /// Of the device; 0: it is gone.
        ifindex: u32,
        /// Those that frames get; None: they keep theirs.
        macs: Option<Macs>,
        /// As an adjacency has it: the device, or who reads behind it, completes partial checksums.
        completes_checksum: bool,
    },
    /// They go on to the host.
    Pass,
    Drop,
    /// A socket takes them, as long as somebody reads; otherwise they go on to the host.
    Socket,
}

/// The MAC addresses of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Macs {
    pub destination: Mac,
    /// The egress device's own.
    pub source: Mac,
}

/// The kinds of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    #[default]
    Redirect,
    Forward,
    Pass,
    Drop,
    Socket,
}

impl Action {
    /// Its kind.
    pub fn kind(&self) -> ActionKind {
        match self {
            Action::Redirect => ActionKind::Redirect,
            Action::Forward { .. } => ActionKind::Forward,
            Action::Pass => ActionKind::Pass,
            Action::Drop => ActionKind::Drop,
            Action::Socket => ActionKind::Socket,
        }
    }

    /// The device that it names.
    pub fn ifindex(&self) -> Option<u32> {
        match self {
            Action::Forward { ifindex, .. } => Some(*ifindex),
            _ => None,
        }
    }
}

impl ActionKind {
    /// Its name in options, files and JSON.
    pub fn name(self) -> &'static str {
        match self {
            ActionKind::Redirect => "redirect",
            ActionKind::Forward => "forward",
            ActionKind::Pass => "pass",
            ActionKind::Drop => "drop",
            ActionKind::Socket => "socket",
        }
    }
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What becomes of a packet that is longer than the egress device's MTU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TooLong {
    /// Its sender is told the MTU.
    #[default]
    Icmp,
    /// It goes on to the host.
    Pass,
    Drop,
}

impl TooLong {
    pub const ALL: [TooLong; 3] = [TooLong::Icmp, TooLong::Pass, TooLong::Drop];

    /// Its name in options, files and JSON.
    pub fn name(self) -> &'static str {
        match self {
            TooLong::Icmp => "icmp",
            TooLong::Pass => "pass",
            TooLong::Drop => "drop",
        }
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
