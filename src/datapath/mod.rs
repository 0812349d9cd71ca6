//! All that touches BPF.

mod abi;
mod attach;
mod counters;
mod foreign;
mod interface;
mod log;
mod maps;
mod pins;
mod rules;
mod sys;

pub use attach::{Attached, Request, attach, detach};
pub use counters::Actions;
pub use foreign::redirects_into;
pub use interface::{Interface, LinkState, interfaces};
pub use log::route as log_libbpf;
pub use pins::Pins;
pub use rules::RuleStore;
