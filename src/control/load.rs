//! Loads rules, many at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::rc::Rc;

use anyhow::Result;

use super::error::Error;
use super::ruleset_file::{self, Egress};
use crate::datapath::{Lock, Pins, RuleStore};
use crate::doctor::{Sample, checks};
use crate::error::Failure;
use crate::host::device;
use crate::model::{Finding, Rule};

/// What is checked of loaded rules.
pub struct LoadReport {
    /// What keeps packets from arriving; an error where that could not be checked.
    pub warnings: Result<Vec<Finding>>,
    /// How many rules have a backend that was not checked.
    pub unchecked: usize,
}

/// Reads a file of rules, and checks all of it.
pub fn parse(text: &str) -> Result<Vec<Rule>> {
    let mut known: HashMap<u32, Rc<Egress>> = HashMap::new();
    // Many rules share few devices.
    ruleset_file::rules(ruleset_file::records(text)?, |ifindex| {
        Ok(match known.entry(ifindex) {
            Occupied(egress) => egress.get().clone(),
            Vacant(new) => new.insert(egress(ifindex)?.into()).clone(),
        })
    })
}

fn egress(ifindex: u32) -> Result<Egress> {
    let none = || Failure::new(Error::NoDevice(ifindex));
    let device = device::by_index(ifindex)?.ok_or_else(none)?;
    Ok(Egress {
        source_mac: device.require_source_mac()?,
        completes_checksum: device.completes_checksum()?,
        name: device.name,
    })
}

/// Stores rules in place of those that have their matches. `progress` hears how many are stored.
pub fn load(pins: &Pins, rules: Vec<Rule>, progress: impl FnMut(usize)) -> Result<LoadReport> {
    let sample = Sample::of(&rules);
    let unchecked = sample.left_out;
    let lock = Lock::take(pins)?;
    RuleStore::open(pins)?.load(rules, progress)?;
    // What follows only looks, and may take a while.
    drop(lock);
    let facts = sample.setup(pins);
    Ok(LoadReport {
        warnings: facts.map(|facts| checks::of_backend(&facts)),
        unchecked,
    })
}
