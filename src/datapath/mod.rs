//! All that touches BPF.

mod abi;
mod attach;
mod banks;
mod bpffs;
mod detach;
mod foreign;
mod group;
mod interface;
mod ledger;
mod load;
mod lock;
mod log;
mod maps;
mod mends;
mod origins;
mod pins;
mod refusal;
mod remains;
mod room;
mod rules;
mod sets;
mod sys;
mod values;

pub use attach::{Attached, Request, attach};
pub use detach::{clear, detach};
pub use foreign::Foreign;
pub use interface::{Ids, Interface, interfaces, runs};
pub use ledger::try_out as try_ledger;
pub use load::try_out as try_program;
pub use log::route as log_libbpf;
pub use mends::Mends;
pub use origins::MAX_TEXT as MAX_ORIGIN;
pub use pins::Pins;
pub use rules::RuleStore;
