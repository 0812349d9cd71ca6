//! All that touches BPF.

mod abi;
mod attach;
mod bpffs;
mod cause;
mod counter_banks;
mod detach;
mod foreign;
mod interface;
mod journal_map;
mod ledger;
mod load;
mod lock;
mod log;
mod maps;
mod permissions;
mod pins;
mod refusal;
mod remains;
mod ruleset;
mod sys;

pub use attach::{Attached, Request, attach};
pub use cause::{exit_code, is_refused};
pub use detach::{clear, detach};
pub use foreign::Foreign;
pub use interface::{Ids, Interface, interfaces, runs};
pub use journal_map::JournalMap;
pub use ledger::try_out as try_ledger;
pub use load::try_out as try_program;
pub use log::route as log_libbpf;
pub use pins::Pins;
pub use ruleset::RuleStore;
pub use ruleset::locators::MAX_TEXT as MAX_LOCATOR;
