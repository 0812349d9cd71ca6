//! The one way to change rules: `begin`, `stage` a plan, then `publish` it or `discard` it.
//!
//! What is staged is written, and neither a packet nor another run sees it. Publishing stores the rules:
//! a run that is killed leaves the old rules or the new ones. A large plan is published in batches, of
//! which each stands alone.

use std::collections::BTreeSet;
use std::vec::IntoIter;

use anyhow::Result;

use super::admission::Part;
use super::codec::{inline_value, key_of};
use super::garbage::Retired;
use super::sets::Tables;
use super::{RuleStore, abi};
use crate::datapath::Lock;
use crate::model::{Backend, Locator, Match, Plan, Rule};

/// A change in the making. It holds what it reads against other runs by the lock.
pub struct Transaction<'a> {
    store: &'a RuleStore,
}

/// A plan that found room, of which the first part is written.
#[must_use = "nothing has changed until it is published"]
pub struct Staged<'a> {
    store: &'a RuleStore,
    written: Option<Written>,
    rest: IntoIter<Part>,
    deleted: Vec<Match>,
}

/// Part of a plan: everything is written but the rules.
#[derive(Default)]
pub struct Written {
    /// How many rules of the plan it stands for, with those that are already as they are to be.
    count: usize,
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

impl RuleStore {
    /// Begins a change. Packets can be redirected to the devices `egress` from now on; backends whose
    /// device was unregistered and had one of these indexes are read as without a device.
    pub fn begin<'a>(&'a self, _: &'a Lock, egress: &BTreeSet<u32>) -> Result<Transaction<'a>> {
        self.open_egress(egress)?;
        Ok(Transaction { store: self })
    }

    /// Changes the rules that have these matches. `edit` is given the rules that there are, and makes of
    /// them what is to be.
    pub fn edit<T>(
        &self,
        lock: &Lock,
        egress: &BTreeSet<u32>,
        matches: impl IntoIterator<Item = Match>,
        edit: impl FnOnce(&mut Vec<Rule>) -> Result<T>,
    ) -> Result<T> {
        let transaction = self.begin(lock, egress)?;
        let mut have = Vec::new();
        for matches in matches {
            have.extend(transaction.get(&matches)?);
        }
        let mut want = have.clone();
        let result = edit(&mut want)?;
        let plan = Plan::between(&have, &want);
        transaction.stage(plan)?.publish()?;
        Ok(result)
    }
}

impl<'a> Transaction<'a> {
    /// A rule as it is.
    pub fn get(&self, matches: &Match) -> Result<Option<Rule>> {
        Ok(self.store.read(matches)?.map(|(_, rule)| rule))
    }

    /// Checks that a plan finds room, and writes the first part of it. A backend without a counter keeps
    /// that of its server in the rule, or gets a new one.
    pub fn stage(self, plan: Plan) -> Result<Staged<'a>> {
        let deleted = plan.delete.clone();
        let mut staged = Staged {
            store: self.store,
            written: None,
            rest: self.store.admit(plan)?.into_iter(),
            deleted,
        };
        staged.reserve_counters()?;
        staged.write_next()?;
        Ok(staged)
    }
}

impl Staged<'_> {
    /// Makes the plan what packets and other runs see.
    pub fn publish(self) -> Result<()> {
        self.publish_with(|_| ())
    }

    /// As `publish`; `progress` hears how many rules are stored.
    pub fn publish_with(mut self, mut progress: impl FnMut(usize)) -> Result<()> {
        let mut done = 0;
        while let Some(written) = self.written.take() {
            self.store.publish(&written)?;
            done += written.count;
            progress(done);
            self.write_next()?;
        }
        let deleted = self.deleted.iter().map(key_of);
        self.store.prefix_lengths.remove(deleted, &self.store.rules)
    }

    /// Gives the plan up. Dropping it does the same.
    pub fn discard(self) {}

    /// Makes the banks that new rules need. All at once, because the kernel waits for all programs each
    /// time that banks are added.
    fn reserve_counters(&self) -> Result<()> {
        let new = self.rest.as_slice().iter().filter(|part| part.is_new);
        let count = new.map(|part| part.put.len()).sum();
        let reserve = || self.store.counters.reserve(count);
        self.store.with_sweep(&Written::default(), reserve)
    }

    fn write_next(&mut self) -> Result<()> {
        let part = self.rest.next();
        self.written = part.map(|part| self.store.write(part)).transpose()?;
        Ok(())
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Some(written) = self.written.take() {
            // What can't be freed now is swept when its room is needed.
            let _ = self.store.retire(&Retired {
                sets: sets_of(&written.values).collect(),
                counters: written.counters.into_iter().collect(),
            });
        }
    }
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
    fn write(&self, part: Part) -> Result<Written> {
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

    /// The locators come before the rules, within the same change: a run that is killed in between
    /// leaves the old adjacency of a backend, which `rule refresh` replaces.
    fn publish(&self, written: &Written) -> Result<()> {
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

fn sets_of(values: &[abi::rule]) -> impl Iterator<Item = u32> {
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
