//! What a rule, a backend, a counter and a device's features are. Pure: no I/O, no libbpf.

mod action;
mod adjacency;
mod answers;
mod capture;
mod chain;
mod change;
mod connection;
mod counter;
pub mod difference;
mod dump;
mod ephemeral;
mod explanation;
mod failures;
mod features;
mod finding;
mod hash;
mod interface;
mod locator;
mod mac;
pub mod maglev;
mod r#match;
mod packet;
mod packet_filter;
mod plan;
pub mod policy;
mod ports;
mod ranges;
mod record;
mod refresh;
mod remedy;
mod reply;
mod revision;
mod rule;
mod ruleset;
mod session;
mod snat;
mod source_ports;
mod state;
mod stats;
mod table_size;

pub use action::{Action, ActionKind, Macs, TooLong};
pub use adjacency::Adjacency;
pub use answers::{AnswerInterface, AnswerWay, ForAnswers, Way};
pub use capture::{Sighting, Stage};
pub use chain::{ChainProgram, ChainStats, CpuVerdicts, Verdict, VerdictCounts, Verdicts};
pub use change::{Change, DeviceRef};
pub use connection::{
    Connection, ConnectionFilter, ConnectionState, ConnectionStats, ConnectionsInUse,
};
pub use counter::{Counter, CpuCounter, Rate};
pub use difference::Unfound;
pub use dump::{ReadQueue, Taken, TakenFrame};
pub use ephemeral::EphemeralPorts;
pub use explanation::{Candidate, Check, Explanation};
pub use failures::{Failures, Loss, Reason};
pub use features::{
    FeatureSource, Features, Netns, Offloads, Peer, Related, Remote, RxQueues, TcHook, XdpFeatures,
};
pub use finding::{Diagnosis, Finding, Fix, LookedAt, Refreshed, Severity};
pub use hash::HashOf;
pub use interface::{
    Actions, ETHERNET_MTU, LedgerState, LinkState, Mode, Outcome, Outcomes, Purpose, TakenOver,
};
pub use locator::Locator;
pub use mac::Mac;
pub use r#match::{Match, Proto};
pub use packet::{FlowPorts, Ip, Packet};
pub use packet_filter::PacketFilter;
pub use plan::Plan;
pub use policy::{NamedPolicy, Policy, PolicySpec};
pub use ports::Ports;
pub use ranges::{Pops, Port, Prefix, VlanId, Weight};
pub use record::RuleRecord;
pub use refresh::{FailedBackend, NamedAdjacency, OtherEnd, RefreshReport, RefreshedBackend};
pub use remedy::{Command, Part, Place, Refusal, Remedy, Tool, Verb};
pub use reply::Reply;
pub use revision::{
    Author, ChangedInterface, ChangedRule, Changes, How, NamedChange, PastRevision, Revision,
};
pub use rule::{Backend, MAX_BACKENDS, Rewrite, Rewriting, Rule};
pub use ruleset::{BackendEntry, InterfaceEntry, ModeEntry, RuleEntry, RuleSet};
pub use session::SshSession;
pub use snat::Snat;
pub use source_ports::SourcePorts;
pub use state::BackendState;
pub use stats::{CpuStats, EgressStats, InterfaceStats, InterfaceStatus, Snapshot, Status};
pub use table_size::{Mebibytes, TableSize};
