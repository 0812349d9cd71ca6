//! Gathers what the checks look at, and mends what they find; finds backends again that moved.

mod gather;
mod mend;
mod notes;
mod place;
mod renewal;
mod sources;
mod stale;
mod undo;
mod ways;

pub use gather::{of_backend, of_interfaces, whole};
pub use mend::mend;
pub use renewal::Renewal;
pub use undo::{Undone, undo};
pub use ways::Ways;

use anyhow::Result;

use crate::checks::Setup;
use crate::error::one_line;
use crate::model::Finding;

/// For `attach` and `rule add`, which have done their work: nothing here is their failure.
pub fn warn(setup: Result<Setup>, checks: fn(&Setup) -> Vec<Finding>) {
    match setup {
        Ok(setup) => {
            for finding in checks(&setup) {
                eprintln!("xdpredir: warning: {finding}");
            }
        }
        Err(error) => {
            let why = one_line(&error);
            eprintln!("xdpredir: warning: cannot check what becomes of packets: {why}");
        }
    }
}
