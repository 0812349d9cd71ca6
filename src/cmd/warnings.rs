//! What `attach`, `rule add` and `rule load` warn of once they have done their work: nothing here is their failure.

use anyhow::Result;

use super::paste;
use crate::cli::Global;
use crate::error::one_line;
use crate::model::Finding;
use crate::show;

/// Prints them, and hands them back; None where that could not be checked.
pub fn say(global: &Global, found: Result<Vec<Finding>>) -> Option<Vec<Finding>> {
    match found {
        Ok(mut found) => {
            paste::complete_mends(global, &mut found);
            found.iter().for_each(show::warning);
            Some(found)
        }
        Err(error) => {
            let why = one_line(&error);
            show::warning(format_args!("cannot check what becomes of packets: {why}"));
            None
        }
    }
}
