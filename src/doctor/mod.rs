//! Gathers what the checks look at, and mends what they find.

mod gather;
mod mend;
mod place;
mod undo;

pub use gather::{of_backend, of_interfaces, whole};
pub use mend::mend;
pub use undo::{Undone, undo};

use crate::model::Finding;

/// As `attach` and `rule add` say it.
pub fn warn(findings: &[Finding]) {
    for finding in findings {
        eprintln!("xdpredir: warning: {finding}");
    }
}
