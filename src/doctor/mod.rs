//! Gathers what the checks look at, and mends what they find; finds backends again that moved.

mod gather;
mod loaded;
mod mend;
mod notes;
mod place;
mod renewal;
mod sources;
mod stale;
mod trials;
mod undo;
mod ways;

pub use gather::{of_backend, of_interfaces, whole};
pub use loaded::Sample;
pub use mend::mend;
pub use renewal::{AT_ONCE, Renewal, carry_out};
pub use undo::{Undone, undo};
pub use ways::Ways;
