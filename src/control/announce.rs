//! Announces the destinations of rules.

use anyhow::Result;

use super::error::Error;
use crate::datapath::Pins;
use crate::doctor::announce;
use crate::error::Failure;
use crate::model::Rule;

/// That no other host has an address that the rules are to announce.
pub fn require_free(pins: &Pins, rules: &[Rule]) -> Result<()> {
    match announce::taken(pins, rules)? {
        Some(taken) => Err(Failure::new(Error::Taken(taken))),
        None => Ok(()),
    }
}

/// Tells the hosts of the links. That is no more than a help: those that are not told, because this process may not,
/// ask once what they know has become old.
pub fn tell(pins: &Pins, rules: &[Rule]) {
    let _ = announce::tell(pins, rules);
}
