//! Probes what the checks look at, fixes what they find, and reverts that; finds backends again that moved.

pub mod announce;
pub mod checks;
pub mod facts;
mod fix;
mod fix_backends;
pub mod health;
mod journal;
pub mod losses;
mod probe;
mod rebind;
mod rediscover;
mod regain;
mod revert;
mod sample;

pub use facts::Facts;
pub use fix::{Fixed, fix};
pub use probe::{of_backend, of_interfaces, of_rules, whole};
pub use rebind::{RULES_AT_ONCE, Rebind};
pub use rediscover::{Rediscovery, Source, by_device, find, find_all};
pub use regain::{Regained, regain};
pub use revert::{Reverted, undo};
pub use sample::Sample;
