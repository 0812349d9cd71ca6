//! What a part of a plan needs beside its rules, written before them: sets, counters, Maglev tables.

use anyhow::Result;

use super::admission::Part;
use super::codec::{inline_value, key_of};
use super::garbage::Retired;
use super::sets::Tables;
use super::{RuleStore, abi};
use crate::model::{Backend, Locator, Match, Rule};

/// Part of a plan: everything is written but the rules.
#[derive(Default)]
pub struct Written {
    /// How many rules of the plan it stands for, with those that are already as they are to be.
    pub count: usize,
    rules: Vec<Rule>,
    pub values: Vec<abi::rule>,
    delete: Vec<Match>,
    /// The counters of new backends.
    pub counters: Vec<u32>,
    locators: Vec<LocatorChange>,
    retired: Retired,
}

/// The rule that has a match now, with its value.
type Old = Option<(abi::rule, Rule)>;

struct LocatorChange {
    counter: u32,
    before: Option<Locator>,
    after: Option<Locator>,
}

impl Written {
    fn add(&mut self, rule: Rule, old: Old) {
        for backend in &rule.backends {
            let known = known(old.as_ref().map(|(_, old)| old), backend);
            let before = known.and_then(|known| known.origin.clone());
            let after = backend.origin.clone();
            if let Some(counter) = backend.counter
                && before != after
            {
                self.locators.push(LocatorChange {
                    counter,
                    before,
                    after,
                });
            }
        }
        if let Some((value, old)) = old {
            self.retire(value, &old.backends, Some(&rule));
        }
        self.rules.push(rule);
    }

    /// Notes what nobody needs once a value, that had these backends, is replaced.
    fn retire(&mut self, value: abi::rule, backends: &[Backend], new: Option<&Rule>) {
        self.retired.sets.extend(sets_of(&[value]));
        let gone = backends
            .iter()
            .filter(|backend| known(new, backend).is_none());
        self.retired
            .counters
            .extend(gone.filter_map(|backend| backend.counter));
    }
}

impl RuleStore {
    /// Writes what a part needs. If that fails, what was written goes.
    pub(super) fn write(&self, part: Part) -> Result<Written> {
        let mut written = Written::default();
        let result = self.write_into(&mut written, part);
        if result.is_err() {
            let _ = self.sweep(&Written::default());
        }
        result.map(|()| written)
    }

    fn write_into(&self, written: &mut Written, part: Part) -> Result<()> {
        written.count = part.put.len();
        for matches in part.delete {
            self.retire_rule(&matches, written)?;
        }
        let mut pairs = Vec::with_capacity(part.put.len());
        for rule in part.put {
            let old = if part.is_new {
                None
            } else {
                self.read(&rule.matches)?
            };
            pairs.push((rule, old));
        }
        self.assign_counters(written, &mut pairs)?;
        for (rule, old) in pairs {
            if old.as_ref().is_none_or(|(_, old)| *old != rule) {
                written.add(rule, old);
            }
        }
        let tables = Tables::default();
        written.values = self.with_sweep(written, || self.values(&written.rules, &tables))?;
        Ok(())
    }

    fn retire_rule(&self, matches: &Match, written: &mut Written) -> Result<()> {
        if let Some(value) = self.stored(matches)? {
            let rule = self.decode(*matches, &value)?;
            written.retire(value, &rule.backends, None);
            written.delete.push(*matches);
        }
        Ok(())
    }

    fn assign_counters(&self, written: &mut Written, pairs: &mut [(Rule, Old)]) -> Result<()> {
        let mut new = 0;
        for (rule, old) in pairs.iter_mut() {
            let old = old.as_ref().map(|(_, old)| old);
            let taken: Vec<u32> = rule.backends.iter().filter_map(|b| b.counter).collect();
            for backend in &mut rule.backends {
                let known = known(old, backend).and_then(|known| known.counter);
                // The backend that has the counter may have moved to another address.
                let is_free = |counter: &u32| backend.counter.is_some() || !taken.contains(counter);
                backend.counter = known.filter(is_free);
                new += usize::from(backend.counter.is_none());
            }
        }
        written.counters = self.new_counters(new)?;
        let mut counters = written.counters.iter();
        let backends = pairs.iter_mut().flat_map(|(rule, _)| &mut rule.backends);
        for backend in backends.filter(|backend| backend.counter.is_none()) {
            backend.counter = counters.next().copied();
        }
        Ok(())
    }

    fn new_counters(&self, count: usize) -> Result<Vec<u32>> {
        let counters = self.with_sweep(&Written::default(), || self.counters.create(count))?;
        self.ledger.forget(&counters)?;
        Ok(counters)
    }

    /// The values of rules, whose sets are written.
    fn values(&self, rules: &[Rule], tables: &Tables) -> Result<Vec<abi::rule>> {
        let value = |rule| match inline_value(rule) {
            Some(value) => Ok(value),
            None => Ok(abi::rule {
                set: self.sets.write(rule, tables)?,
                ..Default::default()
            }),
        };
        rules.iter().map(value).collect()
    }

    /// Stores the rules, and frees what they replace.
    pub(super) fn publish(&self, written: &Written) -> Result<()> {
        if let Err(error) = self.store_part(written) {
            for change in &written.locators {
                let _ = self.locators.put(change.counter, change.before.as_ref());
            }
            // A rule that was stored all the same keeps what it names.
            let _ = self.sweep(&Written::default());
            return Err(error);
        }
        self.retire(&written.retired)
    }

    fn store_part(&self, written: &Written) -> Result<()> {
        if written.rules.is_empty() && written.delete.is_empty() {
            return Ok(());
        }
        let _change = self.generation.change()?;
        for matches in &written.delete {
            self.rules.delete(&key_of(matches))?;
        }
        // Locators come before the rules, within the same change: a run that is killed in between leaves
        // the old adjacency of a backend, which `rule refresh` replaces.
        self.with_sweep(written, || {
            let mut changes = written.locators.iter();
            changes.try_for_each(|c| self.locators.put(c.counter, c.after.as_ref()))
        })?;
        // A prefix length that no rule has costs a lookup; a rule without its length is not found.
        let keys: Vec<_> = written
            .rules
            .iter()
            .map(|rule| key_of(&rule.matches))
            .collect();
        self.prefix_lengths.add(&keys, &self.rules)?;
        self.rules.put_many(&keys, &written.values)
    }
}

/// The sets that values name.
pub fn sets_of(values: &[abi::rule]) -> impl Iterator<Item = u32> {
    values.iter().map(|value| value.set).filter(|&set| set != 0)
}

/// The backend as it is stored now: by its counter, or by its server where the plan says no counter.
fn known<'a>(old: Option<&'a Rule>, backend: &Backend) -> Option<&'a Backend> {
    let old = old?;
    match backend.counter {
        Some(_) => old.backends.iter().find(|b| b.counter == backend.counter),
        None => old.backend(backend.server),
    }
}
