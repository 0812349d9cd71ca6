//! Writes what a plan changes into the staged slot.

use std::collections::HashSet;

use anyhow::{Context, Result};

use super::RuleStore;
use super::change::Change;
use super::heap::Heap;
use super::job::{Job, LocatorChange, Put};
use super::ports::Ports;
use super::probes::Probes;
use super::room::Usage;
use super::slots::Slot;
use super::table::{Table, buckets_for};
use super::targets::Targets;
use crate::datapath::abi;
use crate::datapath::cause::exit_code;
use crate::datapath::maps::{Full, says_full};
use crate::error::{Exit, Failure};
use crate::model::{Locator, Rule};

/// Lines that services and more take, mostly.
const OTHER_LINES: usize = 64;
/// So many rules tell whether all lead to different backends.
const SAMPLE: usize = 1024;
/// So many counters may be garbage at any time; more only in proportion to those in use.
const FREELY_WASTED: usize = abi::BANK_COUNTERS as usize / 2;

/// A rule set that is written, and all that is left to do for packets to see it.
pub struct Written {
    pub staged: Slot,
    pub probes: Probes,
    pub locators: Vec<LocatorChange>,
}

impl RuleStore {
    /// Writes a job into the staged slot. The caller has waited until no packet is on its way through that.
    /// Where there is no room, or only root could make more, what nobody needs any more is swept.
    pub(super) fn write(&self, ports: &Ports, live: &Slot, job: &Job) -> Result<Written> {
        match self.try_to_write(ports, live, job, false) {
            Err(error) if says_full(&error) || exit_code(&error) == Exit::Permission => {
                self.try_to_write(ports, live, job, true)
            }
            result => result,
        }
    }

    fn try_to_write(&self, ports: &Ports, live: &Slot, job: &Job, sweep: bool) -> Result<Written> {
        let staged = self.slots.begin(live)?;
        let probes = self.probes.begin(staged.number)?;
        self.heap.begin(live.set.kept)?;
        self.counters.begin()?;
        let mut change = Change::begin(&self.heap, ports, probes, live, staged)?;
        if sweep {
            self.sweep(&mut change)?;
        }
        let usage = Usage::of_set(&change.staged.set).change(job.gone, job.new);
        self.require_room(&usage, live, job, sweep)?;
        let counters = self.counters.create(job.new_counters)?;
        self.ledger.forget(&counters)?;
        self.heap.reserve(lines_for(job, usage.rules as u32))?;
        let locators = write_rules(&self.heap, &mut change, job, &counters, &usage)?;
        change.compile()?;
        usage.store(&mut change.staged.set);
        Ok(Written {
            staged: change.staged,
            probes: change.probes,
            locators,
        })
    }

    /// What may be in the way is swept first: it was not counted well where others wrote to the maps.
    fn require_room(&self, usage: &Usage, live: &Slot, job: &Job, is_swept: bool) -> Result<()> {
        if is_swept {
            return usage.require_room();
        }
        let full = |name, limit| Err(Failure::new(Full { name, limit }));
        if !usage.has_room() {
            return full("lines", abi::MAX_RULES);
        }
        let used = live.set.backends as usize;
        let garbage = self.counters.taken().saturating_sub(used);
        let is_worth_it = garbage > used.max(FREELY_WASTED);
        if job.new_counters > self.counters.free() && is_worth_it {
            return full("counters", abi::MAX_BACKENDS);
        }
        if job.new.locators > 0 {
            let needed = self.locators.count()? + job.new.locators;
            if needed > abi::ROOM_LOCATORS as usize {
                return full("locators", abi::MAX_LOCATORS);
            }
        }
        Ok(())
    }
}

/// Removes what the job removes and replaces, and inserts its rules. What changes of the locators is
/// returned.
fn write_rules(
    heap: &Heap,
    change: &mut Change,
    job: &Job,
    counters: &[u32],
    usage: &Usage,
) -> Result<Vec<LocatorChange>> {
    let replaced = job.put.iter().filter(|put| put.replaces);
    for key in job.remove.iter().chain(replaced.map(|put| &put.key)) {
        change.remove(key)?;
    }
    let announced = job.announced.changes().count() as u32;
    change.make_room(usage.rules as u32, job.put.len() as u32 + announced)?;
    let mut targets = Targets::new(heap);
    let mut locators = job.locators.clone();
    let mut new = counters.iter();
    let mut of_rule = Vec::new();
    for put in &job.put {
        of_rule.clear();
        for (counter, origin) in counters_of(&put.rule) {
            let number = match counter {
                Some(counter) => counter,
                None => *new.next().context("each new backend has a counter")?,
            };
            of_rule.push(number);
            if counter.is_none() && origin.is_some() {
                locators.push(LocatorChange {
                    counter: number,
                    before: None,
                    after: origin.cloned(),
                });
            }
        }
        let target = targets.write(&put.rule, &of_rule, put.table)?;
        change.insert(&put.key, target)?;
    }
    for (key, by) in job.announced.changes() {
        change.announce(key, by)?;
    }
    Ok(locators)
}

/// The counters of a rule's backends, with their locators; or its own.
fn counters_of(rule: &Rule) -> impl Iterator<Item = (Option<u32>, Option<&Locator>)> {
    let own = rule.backends.is_empty().then_some((rule.counter, None));
    let backends = rule.backends.iter();
    let backends = backends.map(|backend| (backend.counter, backend.origin.as_ref()));
    backends.chain(own)
}

/// Lines that a job needs, but for Maglev tables.
fn lines_for(job: &Job, rules: u32) -> usize {
    let is_ipv6 = |put: &&Put| put.key.is_ipv6();
    let halves = job.put.len()
        + 2 * job.announced.changes().count()
        + job.put.iter().filter(is_ipv6).count();
    let sets = job.put.iter().map(|put| put.rule.backends.len());
    let sets: usize = sets.filter(|&backends| backends > 1).map(|b| b + 1).sum();
    let sample = job.put.iter().take(SAMPLE);
    let first = |put: &'_ Put| put.rule.backends.first().map(|first| first.adjacency);
    let servers: HashSet<_> = sample.filter_map(first).collect();
    let actions = if servers.len() * 2 > job.put.len().min(SAMPLE) {
        job.put.len()
    } else {
        servers.len()
    };
    let table = Table::lines(buckets_for(rules)) as usize;
    halves / 2 + sets + actions + table * usize::from(job.put.len() > SAMPLE) + OTHER_LINES
}
