//! What a plan changes, compared with the live rule set.

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;

use super::RuleStore;
use super::announced::Announcements;
use super::codec::key_of;
use super::key::Key;
use super::room::Usage;
use super::slots::Slot;
use super::targets::set_of;
use super::undo::Undo;
use crate::model::{Backend, How, Locator, Match, Plan, Rule};

/// With so many rules in a plan, all locators are read at once.
const MANY: usize = 256;

/// The changes of a plan.
#[derive(Default)]
pub struct Job {
    pub put: Vec<Put>,
    pub remove: Vec<Key>,
    /// What the rules that go or are replaced take.
    pub gone: Usage,
    /// What the rules take that come.
    pub new: Usage,
    /// The addresses that rules announce.
    pub announced: Announcements,
    /// Those of backends that are there.
    pub locators: Vec<LocatorChange>,
    /// How many new counters it takes.
    pub new_counters: usize,
    pub answers: Answers,
    /// The rules that go or are replaced.
    pub undo: Undo,
}

/// The devices where answers arrive that rules have translated.
#[derive(Default)]
pub struct Answers {
    /// Of the rules as they are.
    pub before: BTreeSet<u32>,
    /// Of the rules as they are to be.
    pub after: BTreeSet<u32>,
}

impl Answers {
    fn change(&mut self, old: Option<&Rule>, new: Option<&Rule>) {
        self.before
            .extend(old.into_iter().flat_map(Rule::answers_by));
        self.after
            .extend(new.into_iter().flat_map(Rule::answers_by));
    }
}

/// A rule to be stored.
pub struct Put {
    pub rule: Rule,
    pub key: Key,
    /// A rule has the key now.
    pub replaces: bool,
    /// The Maglev table of that rule, if it fits.
    pub table: Option<u32>,
}

/// What is stored of how a backend is found again.
#[derive(Clone)]
pub struct LocatorChange {
    pub counter: u32,
    pub before: Option<Locator>,
    pub after: Option<Locator>,
}

/// A rule that is stored.
struct Old {
    rule: Rule,
    table: Option<u32>,
}

/// Where rules are looked up.
struct Lookup<'a> {
    store: &'a RuleStore,
    live: &'a Slot,
    /// All locators; None: they are read one by one.
    locators: Option<HashMap<u32, Locator>>,
}

impl Job {
    /// Finds out what a plan changes. The caller holds the lock.
    pub fn new(store: &RuleStore, live: &Slot, plan: Plan) -> Result<Self> {
        let is_large = plan.put.len() + plan.delete.len() > MANY;
        let locators = is_large.then(|| store.locators.all()).transpose()?;
        let lookup = Lookup {
            store,
            live,
            locators,
        };
        let mut job = Job::default();
        for matches in plan.delete {
            let key = key_of(&matches);
            if let Some(old) = lookup.find(&matches, &key)? {
                job.gone.add(&old.rule);
                job.announced.remove(&old.rule);
                job.answers.change(Some(&old.rule), None);
                job.undo
                    .note(How::Deleted, &matches, &key, Some(&old.rule))?;
                job.remove.push(key);
            }
        }
        for rule in plan.put {
            let key = key_of(&rule.matches);
            let old = lookup.find(&rule.matches, &key)?;
            job.put(rule, key, old)?;
        }
        Ok(job)
    }

    fn put(&mut self, mut rule: Rule, key: Key, old: Option<Old>) -> Result<()> {
        let before = old.as_ref().map(|old| &old.rule);
        assign_counters(&mut rule, before);
        self.answers.change(before, Some(&rule));
        if old.as_ref().is_some_and(|old| old.rule == rule) {
            return Ok(());
        }
        let how = before.map_or(How::Added, |_| How::Changed);
        self.undo.note(how, &rule.matches, &key, before)?;
        self.new.add(&rule);
        self.announced.add(&rule);
        let mut table = None;
        if let Some(old) = &old {
            self.gone.add(&old.rule);
            self.announced.remove(&old.rule);
            self.change_locators(&rule, &old.rule);
            table = old.table.filter(|_| old.rule.members() == rule.members());
        }
        self.new_counters += new_counters(&rule);
        self.put.push(Put {
            rule,
            key,
            replaces: old.is_some(),
            table,
        });
        Ok(())
    }

    fn change_locators(&mut self, rule: &Rule, old: &Rule) {
        for backend in &rule.backends {
            let before = known(old, backend).and_then(|known| known.origin.clone());
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
    }

    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.remove.is_empty()
    }
}

impl Lookup<'_> {
    fn find(&self, matches: &Match, key: &Key) -> Result<Option<Old>> {
        let Some(stored) = self.store.stored(self.live, key)? else {
            return Ok(None);
        };
        let mut rule = self.store.decode(*matches, &stored)?;
        for backend in &mut rule.backends {
            backend.origin = match (&self.locators, backend.counter) {
                (_, None) => None,
                (Some(all), Some(counter)) => all.get(&counter).cloned(),
                (None, Some(counter)) => self.store.locators.get(counter)?,
            };
        }
        let set = set_of(&self.store.heap, stored.target)?;
        Ok(Some(Old {
            rule,
            table: set.map(|set| set.maglev),
        }))
    }
}

/// How many counters a rule has not yet.
fn new_counters(rule: &Rule) -> usize {
    let backends = rule.backends.iter();
    let new = backends.filter(|backend| backend.counter.is_none());
    let own = rule.backends.is_empty() && rule.counter.is_none();
    new.count() + usize::from(own)
}

/// A backend without a counter gets that of its server in the rule; others stay without one, and get a new
/// one.
fn assign_counters(rule: &mut Rule, old: Option<&Rule>) {
    let taken: Vec<u32> = rule.backends.iter().filter_map(|b| b.counter).collect();
    for backend in &mut rule.backends {
        let known = old.and_then(|old| known(old, backend));
        // The backend that has the counter may have moved to another address.
        let is_free = |counter: &u32| backend.counter.is_some() || !taken.contains(counter);
        backend.counter = known.and_then(|known| known.counter).filter(is_free);
    }
    let same = old.filter(|old| rule.backends.is_empty() && old.backends.is_empty());
    rule.counter = same.and_then(|old| old.counter);
}

/// The backend as it is stored now: by its counter, or by its server where the plan says no counter.
fn known<'a>(old: &'a Rule, backend: &Backend) -> Option<&'a Backend> {
    match backend.counter {
        Some(_) => old.backends.iter().find(|b| b.counter == backend.counter),
        None => old.backend(backend.server),
    }
}
