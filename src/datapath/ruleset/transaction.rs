//! The one way to change rules: `begin`, `stage` a plan, then `publish` it or `discard` it.
//!
//! What is staged is written, and neither a packet nor another run sees it. Publishing stores the rules:
//! a run that is killed leaves the old rules or the new ones. A large plan is published in batches, of
//! which each stands alone.

use std::collections::BTreeSet;
use std::vec::IntoIter;

use anyhow::Result;

use super::RuleStore;
use super::admission::Part;
use super::codec::key_of;
use super::garbage::Retired;
use super::staging::{Written, sets_of};
use crate::datapath::Lock;
use crate::model::{Match, Plan, Rule};

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
