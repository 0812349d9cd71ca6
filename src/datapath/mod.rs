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
mod origins;
mod pins;
mod rules;
mod sys;

pub use attach::{Attached, Request, attach};
pub use detach::detach;
pub use interface::{Interface, interfaces};
pub use log::route as log_libbpf;
pub use origins::MAX_TEXT as MAX_ORIGIN;
pub use pins::Pins;
pub use rules::RuleStore;
