//! What was counted, and what is attached, at one moment.

use std::path::PathBuf;

use serde::Serialize;

use super::{
    Actions, ChainProgram, ChainStats, ConnectionStats, ConnectionsInUse, Failures, LedgerState,
    LinkState, Mode, NamedPolicy, Outcomes, Purpose, RuleRecord, SourcePorts,
};

/// All counters at one moment.
#[derive(Default, Serialize)]
pub struct Snapshot {
    /// RFC 3339, UTC.
    pub timestamp: String,
    pub interfaces: Vec<InterfaceStats>,
    /// The devices of the backends and of the policies, as far as they are there.
    pub egress: Vec<EgressStats>,
    /// Lost frames that are in no rule's failures. None: no ledger is kept.
    pub unattributed: Option<Failures>,
    /// None where no rule has remembered connections yet.
    pub connections: Option<ConnectionStats>,
    pub rules: Vec<RuleRecord>,
}

/// What became of the packets that arrived at an interface.
#[derive(Clone, Serialize)]
pub struct InterfaceStats {
    pub ifname: String,
    pub ifindex: u32,
    pub mode: Mode,
    pub purpose: Purpose,
    pub actions: Actions,
    /// Counters by what became of the packets.
    pub outcomes: Outcomes,
    /// The same by CPU, but for those that have counted nothing; None: nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Vec<CpuStats>>,
    /// What the programs that are asked before ours made of packets.
    pub chain: Vec<ChainStats>,
    /// Packets that went to the stack from there, because the kernel allowed no more tail calls. None: there is no
    /// chain.
    pub not_reached: Option<u64>,
}

/// What one CPU has counted of that.
#[derive(Clone, Serialize)]
pub struct CpuStats {
    pub cpu: u32,
    pub actions: Actions,
    pub outcomes: Outcomes,
}

/// What a backend's device says of itself.
#[derive(Serialize)]
pub struct EgressStats {
    pub ifname: String,
    pub ifindex: u32,
    /// The kernel's own count: also of what others sent, since the device was made.
    pub tx_dropped: u64,
}

/// What is attached.
#[derive(Serialize)]
pub struct Status {
    pub pin_dir: PathBuf,
    /// This version of the command, with its build.
    pub version: &'static str,
    pub interfaces: Vec<InterfaceStatus>,
    pub rules: usize,
    /// None where no rule has remembered connections yet, and nobody has said how many.
    pub connections: Option<ConnectionsInUse>,
    /// From which connections get source ports; None: nothing is attached.
    pub snat_ports: Option<SourcePorts>,
}

/// How the program is attached to an interface.
#[derive(Serialize)]
pub struct InterfaceStatus {
    pub ifname: String,
    pub ifindex: u32,
    pub mode: Mode,
    pub purpose: Purpose,
    /// The program's number; None: only root may ask.
    pub program_id: Option<u32>,
    /// The link's number; None: only root may ask.
    pub link_id: Option<u32>,
    /// Whether libxdp's dispatcher calls it, or did.
    #[serde(skip)]
    pub joined: bool,
    /// That of ours in the dispatcher; None: it is in none, or only root may ask.
    pub priority: Option<u32>,
    pub state: LinkState,
    /// The version of the command that attached it, with its build; None: one that said nothing of it.
    pub version: Option<String>,
    /// Whether lost frames are counted.
    pub ledger: LedgerState,
    /// Whether backends whose link is down are skipped.
    pub sees_links: bool,
    /// What becomes of the frames that no rule matches.
    #[serde(flatten)]
    pub policy: NamedPolicy,
    /// The programs that are asked before ours.
    pub chain: Vec<ChainProgram>,
}
