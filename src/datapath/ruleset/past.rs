//! Revisions: each is written down before it is published, and the rules can be as after an earlier one.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::RuleStore;
use super::codec::key_of;
use super::slots::Slot;
use super::targets;
use super::undo::{self, Undo};
use crate::datapath::Lock;
use crate::datapath::history::{New, Past, Unconfirmed};
use crate::datapath::interface::Interface;
use crate::datapath::stances::{Stances, interfaces};
use crate::error::{Exit, failure};
use crate::host::author;
use crate::model::{InterfaceEntry, Match, Plan, Purpose, Remedy, Revision, Rule, Verb};

/// How the rules become what they were.
pub struct Back {
    /// The revision that is live; the plan is for that.
    pub live: u64,
    pub plan: Plan,
    /// The interfaces that rules were for; None: as they are.
    pub interfaces: Option<Vec<InterfaceEntry>>,
}

/// How a revision ends unless somebody confirms it.
pub struct Trial {
    pub unconfirmed: Unconfirmed,
    /// Sees to it that the revision ends, before it is published.
    pub begin: Box<dyn FnOnce(u64) -> Result<()>>,
}

impl Trial {
    fn begin(self, revision: u64) -> Result<Unconfirmed> {
        (self.begin)(revision)?;
        Ok(self.unconfirmed)
    }
}

/// What has changed since, as it was.
#[derive(Default)]
struct Before {
    /// By their matches; None: there was none.
    rules: HashMap<Match, Option<Rule>>,
    /// None: they have not changed.
    interfaces: Option<Vec<InterfaceEntry>>,
}

impl RuleStore {
    /// Writes down the revision that is about to take the place of the live one.
    pub(super) fn record(&self, live: u64, undo: Undo, trial: Option<Trial>) -> Result<()> {
        let (changes, before) = undo.finish()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let revision = Revision {
            revision: live + 1,
            time: now.unwrap_or_default().as_secs(),
            author: author::of_this_process(),
            changes,
        };
        let unconfirmed = trial.map(|trial| trial.begin(live + 1)).transpose()?;
        let new = New {
            revision,
            before,
            unconfirmed,
        };
        self.history.record(live, &new)
    }

    /// Whether the live revision ends unless somebody confirms it.
    pub fn unconfirmed(&self) -> Result<Option<Unconfirmed>> {
        self.history.unconfirmed(self.revision()?)
    }

    /// Makes the live revision one that stays.
    pub fn confirm(&self, _: &Lock) -> Result<()> {
        self.history.confirm(self.revision()?)
    }

    /// What changes meanwhile would go when the live revision ends.
    pub(super) fn require_confirmed(&self, live: &Slot) -> Result<()> {
        let revision = live.set.revision;
        if self.history.unconfirmed(revision)?.is_none() {
            return Ok(());
        }
        let why =
            format!("revision {revision} is not confirmed yet, and nothing changes until it is");
        let remedy = Remedy::from(Verb::Confirm)
            + " keeps it, "
            + Verb::Plain("rollback")
            + " takes it back";
        Err(failure(Exit::Conflict, (why, remedy)))
    }

    /// The revisions that are kept, the newest first.
    pub fn past(&self) -> Result<Vec<Past>> {
        self.read_whole("the history", |live| {
            self.history.revisions(live.set.revision)
        })
    }

    /// Notes the interfaces that rules are for where a change makes something of them.
    pub(super) fn note_interfaces(&self, stances: &Stances, undo: &mut Undo) -> Result<()> {
        let entries = |all: Vec<Interface>| -> Vec<InterfaceEntry> {
            let ours = all.iter().filter(|i| i.purpose == Purpose::Rules);
            ours.map(Interface::entry).collect()
        };
        let before = entries(interfaces(&self.pins)?);
        let after = entries(stances.interfaces(&self.pins)?);
        undo.note_interfaces(before, &after);
        Ok(())
    }

    /// What makes the state what it was after a revision; None where that is not kept.
    pub fn back_to(&self, revision: u64) -> Result<Option<Back>> {
        let back = self.read_whole("the history", |live| self.before_all(live, revision))?;
        Ok(back.map(|(live, before)| Back {
            live,
            plan: plan(before.rules),
            interfaces: before.interfaces,
        }))
    }

    fn before_all(&self, live: &Slot, revision: u64) -> Result<Option<(u64, Before)>> {
        let mut before = Before::default();
        let number = live.set.revision;
        for later in (revision + 1..=number).rev() {
            let Some(packed) = self.history.before(later)? else {
                return Ok(None);
            };
            let rules = &mut before.rules;
            let read = undo::read(&packed, |matches, rule| {
                self.go_back(live, rules, matches, rule)
            });
            let read =
                read.with_context(|| format!("cannot read what was before revision {later}"))?;
            before.interfaces = read.interfaces.or(before.interfaces);
        }
        Ok(Some((number, before)))
    }

    /// A backend that a change deleted has lost its counter, which may be another one's since: it keeps its
    /// counter where the rule had it after the change, too.
    fn go_back(
        &self,
        live: &Slot,
        before: &mut HashMap<Match, Option<Rule>>,
        matches: Match,
        mut rule: Option<Rule>,
    ) -> Result<()> {
        let after = match before.get(&matches) {
            Some(after) => after.iter().flat_map(counters).collect(),
            None => self.counters_now(live, &matches)?,
        };
        for backend in rule.iter_mut().flat_map(|rule| &mut rule.backends) {
            backend.counter = backend.counter.filter(|counter| after.contains(counter));
        }
        before.insert(matches, rule);
        Ok(())
    }

    fn counters_now(&self, live: &Slot, matches: &Match) -> Result<Vec<u32>> {
        let Some(stored) = self.stored(live, &key_of(matches))? else {
            return Ok(Vec::new());
        };
        let actions = targets::read(&self.heap, &stored)?;
        Ok(actions.into_iter().map(|(_, counter)| counter).collect())
    }
}

fn counters(rule: &Rule) -> impl Iterator<Item = u32> {
    rule.backends.iter().filter_map(|backend| backend.counter)
}

fn plan(before: HashMap<Match, Option<Rule>>) -> Plan {
    let mut plan = Plan::default();
    for (matches, rule) in before {
        match rule {
            Some(rule) => plan.put.push(rule),
            None => plan.delete.push(matches),
        }
    }
    plan.put.sort_unstable_by_key(|rule| rule.matches);
    plan.delete.sort_unstable();
    plan
}
