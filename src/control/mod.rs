//! The use cases: what a command line, a prompt or another program may ask for. Typed requests in, reports
//! out; nothing is printed here, and nothing here knows an option of the command line.

mod add;
mod add_action;
mod announce;
mod attach;
mod delete;
mod detach;
mod diagnose;
mod drain;
mod error;
mod features;
mod flow;
mod inventory;
mod load;
mod mark;
mod merge;
mod policy;
mod refresh;
mod reply;
mod resolve;
pub mod ruleset_file;
mod selector;
mod source;
mod stats;
pub mod validate;

pub use crate::datapath::{Attached, Pins, Report as AttachReport, locate};
pub use crate::doctor::{Fixed, Reverted, fix, losses::reasons as loss_reasons};
pub use add::{AddReport, AddRequest, add};
pub use add_action::{ActionReport, ActionRequest, ActionSpec, add_action};
pub use attach::{AttachRequest, attach, check_attached};
pub use delete::{DeleteReport, DeleteRequest, delete};
pub use detach::{DetachReport, DetachRequest, Left, detach};
pub use diagnose::{Recheck, diagnose, recheck, revert};
pub use drain::{Drained, Draining, Progress, drain};
pub use error::{Error, Field, reason as why_not_rewritten};
pub use features::features;
pub use flow::{FlowSelector, Flows, end_flows};
pub use inventory::list;
pub use load::{LoadReport, load, parse};
pub use mark::{MarkReport, mark};
pub use policy::{PolicyReport, check_policy, policy, set_policy};
pub use refresh::refresh;
pub use resolve::{DeviceSpec, NamespaceSpec};
pub use selector::{MatchSpec, RuleSelector, text as match_text};
pub use stats::{snapshot, status};
