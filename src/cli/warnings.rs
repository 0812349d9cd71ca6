//! What `attach`, `rule add` and `rule load` warn of once they have done their work: nothing here is their failure.

use anyhow::Result;

use super::grammar::Global;
use super::paste;
use xdpredir::error::one_line;
use xdpredir::model::Finding;
use xdpredir::view;

/// Prints them, and hands them back; None where that could not be checked.
pub fn say(global: &Global, found: Result<Vec<Finding>>) -> Option<Vec<Finding>> {
    match found {
        Ok(mut found) => {
            paste::complete_mends(global, &mut found);
            found.iter().for_each(view::warning);
            Some(found)
        }
        Err(error) => {
            let why = one_line(&error);
            view::warning(format_args!(
                "cannot check whether packets will arrive: {why}"
            ));
            None
        }
    }
}
