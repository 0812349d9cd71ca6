//! Gathers what the checks look at, and mends what they find.

mod gather;
mod mend;
mod place;
mod undo;

pub use gather::{of_backend, of_interfaces, whole};
pub use mend::mend;
pub use undo::{Undone, undo};

use anyhow::Result;

use crate::checks::Setup;
use crate::error::one_line;
use crate::model::Finding;
use crate::show;

/// For `attach` and `rule add`, which have done their work: nothing here is their failure.
pub fn warn(setup: Result<Setup>, checks: fn(&Setup) -> Vec<Finding>) {
    match setup {
        Ok(setup) => {
            for finding in checks(&setup) {
                show::warning(finding);
            }
        }
        Err(error) => {
            let why = one_line(&error);
            show::warning(format_args!("cannot check what becomes of packets: {why}"));
        }
    }
}
