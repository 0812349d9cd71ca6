//! Loads rules, many at once.

use std::net::IpAddr;

use anyhow::Result;

use super::announce;
use super::error::Error;
use super::reply;
use super::ruleset_file::{self, Devices, Egress, Rules};
use super::source;
use crate::datapath::{Lock, Pins, RuleStore};
use crate::doctor::{Sample, checks};
use crate::error::Failure;
use crate::host::device;
use crate::model::{Finding, ForAnswers, Plan};

/// What is checked of loaded rules.
pub struct LoadReport {
    /// What was done so that answers are seen.
    pub for_answers: ForAnswers,
    /// Why answers are not translated, of rules that do not say how they come back.
    pub untranslated: Vec<anyhow::Error>,
    /// What keeps packets from arriving; an error where that could not be checked.
    pub warnings: Result<Vec<Finding>>,
    /// How many rules have a backend that was not checked.
    pub unchecked: usize,
}

/// Reads a file of rules, and checks all of it.
pub fn parse(text: &str) -> Result<Rules> {
    ruleset_file::rules(ruleset_file::records(text)?, &Host)
}

/// This network namespace.
pub(super) struct Host;

impl Devices for Host {
    fn egress(&self, ifindex: u32) -> Result<Egress> {
        let none = || Failure::new(Error::NoDevice(ifindex));
        let device = device::by_index(ifindex)?.ok_or_else(none)?;
        Ok(Egress {
            source_mac: device.require_source_mac()?,
            completes_checksum: device.completes_checksum()?,
            name: device.name,
        })
    }

    fn ifindex(&self, name: &str) -> Result<u32> {
        Ok(device::by_name(name)?.ifindex)
    }

    fn name(&self, ifindex: u32) -> Result<String> {
        device::name_of(ifindex).ok_or_else(|| Failure::new(Error::NoDevice(ifindex)))
    }

    fn source(&self, server: IpAddr) -> Result<IpAddr> {
        source::of(server)
    }
}

/// Stores rules in place of those that have their matches. `progress` hears how many are stored.
pub fn load(pins: &Pins, rules: Rules, progress: impl FnMut(usize)) -> Result<LoadReport> {
    let Rules { mut rules, open } = rules;
    let new = announce::new_ones(pins, &rules)?;
    announce::require_free(pins, &new)?;
    let lock = Lock::take(pins)?;
    let store = RuleStore::open(pins)?;
    let backends = rules.iter().flat_map(|rule| &rule.backends);
    let backends = backends.map(|backend| backend.ifindex);
    let forwards = rules.iter().filter_map(|rule| rule.action.ifindex());
    let egress = backends.chain(forwards).collect();
    let mut transaction = store.begin(&lock, &egress)?;
    let mut asked = reply::Asked::new(|ifindex| transaction.translate(ifindex));
    open.iter()
        .for_each(|&place| asked.decide(&mut rules[place]));
    let untranslated = asked.refused();
    let sample = Sample::of(&rules);
    let unchecked = sample.left_out;
    let staged = transaction.stage(Plan::put(rules))?;
    let for_answers = staged.publish_with(progress)?;
    announce::tell(pins, &new);
    // What follows only looks, and may take a while.
    drop(lock);
    let facts = sample.facts(pins);
    Ok(LoadReport {
        for_answers,
        untranslated,
        warnings: facts.map(|facts| checks::of_backend(&facts)),
        unchecked,
    })
}
