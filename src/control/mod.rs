//! The use cases: what a command line, a prompt or another program may ask for. Typed requests in, reports
//! out; nothing is printed here, and nothing here knows an option of the command line.

mod add;
mod add_action;
mod announce;
mod apply;
mod attach;
mod capture;
mod delete;
mod detach;
mod diagnose;
mod drain;
mod error;
mod explain;
mod export;
mod features;
mod flow;
mod frame;
mod frames;
mod history;
mod inventory;
mod load;
mod mark;
mod merge;
mod policy;
mod refresh;
mod reply;
mod resolve;
mod rollback;
pub mod ruleset_file;
mod selector;
mod source;
mod stats;
mod trial;
pub mod validate;
pub mod wanted;

pub use crate::datapath::{Attached, Pins, Report as AttachReport, locate, upgrade};
pub use crate::doctor::{Fixed, Reverted, fix, losses::reasons as loss_reasons};
pub use add::{AddReport, AddRequest, add};
pub use add_action::{ActionReport, ActionRequest, ActionSpec, add_action};
pub use apply::{ApplyReport, ApplyRequest, Difference, Names, RuleCounts, apply, diff};
pub use attach::{AttachRequest, attach, check_attached};
pub use capture::{
    CaptureReport, CaptureRequest, Capturing, MAX_SNAPLEN, Told, capture, outcome_names,
};
pub use delete::{DeleteReport, DeleteRequest, delete};
pub use detach::{DetachReport, DetachRequest, Left, detach};
pub use diagnose::{Recheck, diagnose, recheck, revert};
pub use drain::{Drained, Draining, Progress, drain};
pub use error::{Error, Field, reason as why_not_rewritten};
pub use explain::{ExplainRequest, PacketSpec, explain};
pub use export::{export, schema};
pub use features::features;
pub use flow::{FlowSelector, Flows, end_flows};
pub use frame::{FrameSpec, TcpFlag};
pub use history::history;
pub use inventory::list;
pub use load::{LoadReport, load, parse};
pub use mark::{MarkReport, mark};
pub use policy::{PolicyReport, check_policy, policy, set_policy};
pub use refresh::refresh;
pub use resolve::{DeviceSpec, NamespaceSpec};
pub use rollback::{MissingInterface, RollbackReport, RollbackTo, rollback};
pub use selector::{MatchSpec, RuleSelector, text as match_text};
pub use stats::{snapshot, status};
pub use trial::{TrialRequest, confirm, trial};
