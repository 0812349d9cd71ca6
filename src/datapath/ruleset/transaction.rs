//! The one way to change rules: `begin`, `stage` a plan, then `publish` it or `discard` it.
//!
//! What is staged is written, and neither a packet nor another run sees it. Publishing is one write,
//! whatever the plan, and whatever it makes of interfaces: a run that is killed leaves the old state or the new
//! one.

use std::collections::BTreeSet;

use anyhow::Result;

use super::codec::key_of;
use super::job::{Answers, Job, LocatorChange};
use super::ports::Ports;
use super::slots::{FIRST_REVISION, Slot};
use super::staging::Written;
use super::undo::Undo;
use super::{RuleStore, Trial};
use crate::datapath::answers::{self, Attaching};
use crate::datapath::stances::Stances;
use crate::datapath::state::linked;
use crate::datapath::{Lock, Unconfirmed, flow_table, sys};
use crate::host::device;
use crate::model::{ForAnswers, Match, Plan, Rule};

/// A change in the making. It holds what it reads against other runs by the lock.
pub struct Transaction<'a> {
    store: &'a RuleStore,
    attaching: Attaching<'a>,
    /// It may take the place of a revision that nobody has confirmed.
    goes_back: bool,
    /// How it ends unless somebody confirms it.
    trial: Option<Trial>,
}

/// A plan that found room, and is written.
#[must_use = "nothing has changed until it is published"]
pub struct Staged<'a> {
    store: &'a RuleStore,
    live: Slot,
    /// None where nothing changes.
    written: Option<Written>,
    /// What the plan replaces.
    undo: Undo,
    trial: Option<Trial>,
    answers: Answers,
    attaching: Attaching<'a>,
    /// How many rules the plan stores, with those that are already as they are to be.
    count: usize,
}

impl RuleStore {
    /// Begins a change. Packets can be sent to the devices `egress` from now on; actions whose device was
    /// unregistered and had one of these indexes are read as without a device.
    pub fn begin<'a>(&'a self, lock: &'a Lock, egress: &BTreeSet<u32>) -> Result<Transaction<'a>> {
        self.begin_with(lock, egress, Stances::default())
    }

    /// Begins a change that makes something of interfaces, too, when it is published.
    pub(in crate::datapath) fn begin_with<'a>(
        &'a self,
        lock: &'a Lock,
        egress: &BTreeSet<u32>,
        stances: Stances,
    ) -> Result<Transaction<'a>> {
        self.open_egress(egress)?;
        Ok(Transaction {
            store: self,
            attaching: Attaching::new(&self.pins, lock, stances),
            goes_back: false,
            trial: None,
        })
    }

    /// Changes the rules that have these matches. `edit` is given the rules that there are, and makes of
    /// them what is to be.
    pub fn edit<T>(
        &self,
        lock: &Lock,
        egress: &BTreeSet<u32>,
        matches: impl IntoIterator<Item = Match>,
        edit: impl FnOnce(&mut Vec<Rule>) -> Result<T>,
    ) -> Result<(T, ForAnswers)> {
        self.edit_with(lock, egress, matches, |_, rules| edit(rules))
    }

    /// The same for who asks the transaction what can be done.
    pub fn edit_with<T>(
        &self,
        lock: &Lock,
        egress: &BTreeSet<u32>,
        matches: impl IntoIterator<Item = Match>,
        edit: impl FnOnce(&mut Transaction, &mut Vec<Rule>) -> Result<T>,
    ) -> Result<(T, ForAnswers)> {
        let mut transaction = self.begin(lock, egress)?;
        let mut have = Vec::new();
        for matches in matches {
            have.extend(transaction.get(&matches)?);
        }
        let mut want = have.clone();
        let result = edit(&mut transaction, &mut want)?;
        // A rule that stays as it is is in no plan.
        let known: BTreeSet<u32> = have.iter().flat_map(Rule::answers_by).collect();
        let mut wanted = want.iter().flat_map(Rule::answers_by);
        wanted.try_for_each(|ifindex| transaction.see(ifindex, known.contains(&ifindex)))?;
        let plan = Plan::between(&have, &want);
        let for_answers = transaction.stage(plan)?.publish()?;
        Ok((result, for_answers))
    }

    /// Makes what a rule needs whose connections are remembered: their table, and the way back to the
    /// interfaces where requests arrive.
    fn prepare_connections(&self) -> Result<()> {
        flow_table::require(&self.pins)?;
        // The kernel opens no device that is gone.
        let there = |ifindex: &u32| device::name_of(*ifindex).is_some();
        let linked = linked(&self.pins)?.into_iter();
        self.open_egress(&linked.filter(there).collect())
    }

    /// Stores locators. If that fails, those from before are stored again.
    fn store_locators(&self, changes: &[LocatorChange]) -> Result<()> {
        for (done, change) in changes.iter().enumerate() {
            if let Err(error) = self.locators.put(change.counter, change.after.as_ref()) {
                for change in &changes[..done] {
                    let _ = self.locators.put(change.counter, change.before.as_ref());
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

impl<'a> Transaction<'a> {
    /// The rules as they are.
    pub fn list(&self) -> Result<Vec<Rule>> {
        self.store.list_unsorted()
    }

    /// A rule as it is.
    pub fn get(&self, matches: &Match) -> Result<Option<Rule>> {
        let live = self.store.slots.live()?;
        self.store.read(&live, matches, &key_of(matches))
    }

    /// The number of the rule set that there is.
    pub fn revision(&self) -> Result<u64> {
        self.store.revision()
    }

    /// Whether that ends unless somebody confirms it.
    pub fn unconfirmed(&self) -> Result<Option<Unconfirmed>> {
        self.store.unconfirmed()
    }

    /// Takes the place of a revision that nobody has confirmed.
    pub fn go_back(&mut self) {
        self.goes_back = true;
    }

    /// The revision ends unless somebody confirms it.
    pub fn try_out(&mut self, trial: Trial) {
        self.trial = Some(trial);
    }

    /// Prepares that answers which arrive at a device are translated.
    pub fn translate(&mut self, ifindex: u32) -> Result<()> {
        self.attaching.see(ifindex)?;
        flow_table::require(&self.store.pins)
    }

    /// Attaches the program to a device where answers arrive that it has to see. Where that fails, a rule
    /// that had answers there before goes on as it was: somebody has detached there.
    fn see(&mut self, ifindex: u32, had_some: bool) -> Result<()> {
        let seen = self.attaching.see(ifindex);
        if had_some { Ok(()) } else { seen }
    }

    /// Has the program see the answers of rules that stay as they are, too: interfaces come or go with this change.
    /// Where that fails, doctor says so.
    fn see_all(&mut self, staged: &Slot) -> Result<()> {
        let needed = self.store.answers_in(staged)?;
        needed
            .iter()
            .try_for_each(|&ifindex| self.see(ifindex, true))
    }

    /// Checks that a plan finds room, and writes it. A backend without a counter keeps that of its server
    /// in the rule, or gets a new one.
    pub fn stage(mut self, plan: Plan) -> Result<Staged<'a>> {
        let store = self.store;
        let count = plan.put.len();
        let live = store.slots.live()?;
        let mut job = Job::new(store, &live, plan)?;
        let Answers { before, after } = &job.answers;
        after
            .iter()
            .try_for_each(|ifindex| self.see(*ifindex, before.contains(ifindex)))?;
        let mut written = None;
        if !job.is_empty() || !self.attaching.stances.is_empty() {
            if !self.goes_back {
                store.require_confirmed(&live)?;
            }
            let ports = Ports::open(&store.pins)?;
            // The slot that is written into was the live one until the last change.
            if live.set.revision > FIRST_REVISION {
                sys::wait_for_readers();
            }
            if job.new.remembering > 0 {
                store.prepare_connections()?;
            }
            let now = store.write(&ports, &live, &job)?;
            if !self.attaching.stances.is_empty() {
                self.see_all(&now.staged)?;
                store.note_interfaces(&self.attaching.stances, &mut job.undo)?;
            }
            written = Some(now);
        }
        Ok(Staged {
            store,
            live,
            written,
            undo: job.undo,
            trial: self.trial,
            answers: job.answers,
            attaching: self.attaching,
            count,
        })
    }
}

impl Staged<'_> {
    /// Makes the plan what packets and other runs see.
    pub fn publish(self) -> Result<ForAnswers> {
        self.publish_with(|_| ())
    }

    /// As `publish`; `progress` hears how many rules are stored.
    pub fn publish_with(self, mut progress: impl FnMut(usize)) -> Result<ForAnswers> {
        let Staged {
            store,
            live,
            written,
            undo,
            trial,
            answers,
            attaching,
            count,
        } = self;
        let pins = &store.pins;
        answers::expect_less(pins, &(&answers.before - &answers.after))?;
        if let Some(written) = written {
            store.heap.store()?;
            store.counters.store()?;
            store.probes.store(&written.probes)?;
            store.record(live.set.revision, undo, trial)?;
            // A run that is killed in between leaves the old adjacency of a backend, which `rule refresh`
            // replaces.
            store.store_locators(&written.locators)?;
            let revision = live.set.revision + 1;
            let has_dormant = attaching.stances.stage(pins, written.staged.number)?;
            store
                .slots
                .publish(&written.staged, revision, has_dormant)?;
        }
        let attached = attaching.keep();
        progress(count);
        let detached = answers::settle(store, pins, &answers.after);
        Ok(ForAnswers { attached, detached })
    }

    /// Gives the plan up. Dropping it does the same: what nobody can reach is swept when its room is needed.
    pub fn discard(self) {}
}
