//! Gathers what the checks look at, and mends what they find.

mod gather;
mod mend;
mod place;
mod undo;

pub use gather::{of_backend, of_interfaces, whole};
pub use mend::mend;
pub use undo::{Undone, undo};
