//! What was counted, and what is attached, at one moment.

use std::path::PathBuf;

use serde::Serialize;

use super::{Actions, Failures, LedgerState, LinkState, Mode, Outcomes, RuleRecord};

/// All counters at one moment.
#[derive(Serialize)]
pub struct Snapshot {
    /// RFC 3339, UTC.
    pub timestamp: String,
    /// The attached interfaces.
    pub interfaces: Vec<InterfaceStats>,
    /// The devices of the backends, as far as they are there.
    pub egress: Vec<EgressStats>,
    /// Lost frames that are in no rule's failures. None: no ledger is kept.
    pub unattributed: Option<Failures>,
    /// The backends.
    pub rules: Vec<RuleRecord>,
}

/// What became of the packets that arrived at an interface.
#[derive(Serialize)]
pub struct InterfaceStats {
    /// The interface's name.
    pub ifname: String,
    /// The interface's index.
    pub ifindex: u32,
    /// Where in the receive path the program runs.
    pub mode: Mode,
    /// Counters by XDP action.
    pub actions: Actions,
    /// Counters by what became of the packets.
    pub outcomes: Outcomes,
}

/// What a backend's device says of itself.
#[derive(Serialize)]
pub struct EgressStats {
    /// The device's name.
    pub ifname: String,
    /// The device's index.
    pub ifindex: u32,
    /// The kernel's own count: also of what others sent, since the device was made.
    pub tx_dropped: u64,
}

/// What is attached.
#[derive(Serialize)]
pub struct Status {
    /// The pin directory.
    pub pin_dir: PathBuf,
    /// The attached interfaces.
    pub interfaces: Vec<InterfaceStatus>,
    /// How many rules there are.
    pub rules: usize,
}

/// How the program is attached to an interface.
#[derive(Serialize)]
pub struct InterfaceStatus {
    /// The interface's name.
    pub ifname: String,
    /// The interface's index.
    pub ifindex: u32,
    /// Where in the receive path the program runs.
    pub mode: Mode,
    /// The program's number; None: only root may ask.
    pub program_id: Option<u32>,
    /// The link's number; None: only root may ask.
    pub link_id: Option<u32>,
    /// Whether packets still meet the program.
    pub state: LinkState,
    /// Whether lost frames are counted.
    pub ledger: LedgerState,
}
