//! The rules that are wanted, beside those that there are.

use std::collections::{BTreeSet, HashMap};

use super::RuleCounts;
use super::live::Names;
use crate::control::wanted::{Missing, Wanted};
use crate::model::difference::Change;
use crate::model::{Action, Backend, Plan, Reply, Rule};

/// How rules differ.
#[derive(Debug, Default)]
pub struct Difference {
    pub added: Vec<Rule>,
    /// As they are, and as they are to be.
    pub changed: Vec<(Rule, Rule)>,
    pub removed: Vec<Rule>,
    /// How many stay as they are.
    pub same: usize,
}

/// Compares what there is with what is wanted. `decide` says how the answers come back of a rule that leaves
/// that open; it is given the rule that there is.
pub fn compare(
    mut wanted: Wanted,
    live: Vec<Rule>,
    keep_others: bool,
    mut decide: impl FnMut(&mut Rule, Option<&Rule>),
) -> Difference {
    let mut missing = Missed::of(std::mem::take(&mut wanted.missing));
    let mut difference = Difference::default();
    let mut there = vec![false; wanted.rules.len()];
    let mut complete = |number: usize, wanted: &mut Wanted, old: Option<&Rule>| {
        let wanted = &mut wanted.rules[number];
        missing.complete(number, &mut wanted.rule, old);
        forget_unused(&mut wanted.rule);
        if wanted.is_open {
            decide(&mut wanted.rule, old);
        }
        wanted.take()
    };
    for old in live {
        let Some(number) = wanted.number_of(&old.matches) else {
            if !keep_others {
                difference.removed.push(old);
            }
            continue;
        };
        there[number] = true;
        let new = complete(number, &mut wanted, Some(&old));
        if is_unknown(&new) || new.does_the_same(&old) {
            difference.same += 1;
        } else {
            difference.changed.push((old, new));
        }
    }
    for number in (0..there.len()).filter(|&number| !there[number]) {
        let new = complete(number, &mut wanted, None);
        if !is_unknown(&new) {
            difference.added.push(new);
        }
    }
    difference
}

/// What applies to no backend of a rule is not stored.
fn forget_unused(rule: &mut Rule) {
    if rule.translatable_by().next().is_none() {
        (rule.snat, rule.reply) = (None, Reply::None);
    }
}

/// Whether none of its backends is known.
fn is_unknown(rule: &Rule) -> bool {
    rule.action == Action::Redirect && rule.backends.is_empty()
}

/// Backends that can't be found now, by the number of their rule.
struct Missed(HashMap<usize, Vec<Backend>>);

impl Missed {
    fn of(missing: Vec<Missing>) -> Self {
        let mut all = HashMap::<usize, Vec<Backend>>::new();
        for (rule, backend) in missing.into_iter().filter_map(|missing| missing.backend) {
            all.entry(rule).or_default().push(backend);
        }
        Missed(all)
    }

    /// A backend that is there stays as it is. One that has an address has no device until it is found: packets
    /// pass it by.
    fn complete(&mut self, number: usize, rule: &mut Rule, old: Option<&Rule>) {
        for mut backend in self.0.remove(&number).into_iter().flatten() {
            let is_same = |known: &&Backend| {
                let found = backend.origin.is_some() && known.origin == backend.origin;
                known.server == backend.server || backend.server.is_unspecified() && found
            };
            let known = old.and_then(|old| old.backends.iter().find(is_same));
            if let Some(known) = known {
                backend.adjacency = known.adjacency;
                backend.own_source = known.own_source;
            }
            if !backend.server.is_unspecified() && rule.backend(backend.server).is_none() {
                rule.put(backend);
            }
        }
    }
}

impl Difference {
    /// How many differ, and how many do not.
    pub fn counts(&self) -> RuleCounts {
        RuleCounts {
            added: self.added.len(),
            changed: self.changed.len(),
            removed: self.removed.len(),
            same: self.same,
        }
    }

    /// How many differ.
    pub fn count(&self) -> usize {
        self.added.len() + self.changed.len() + self.removed.len()
    }

    /// Sorts what goes and changes, as rules are listed. What comes is in the order of the files.
    pub fn sort(&mut self) {
        self.removed.sort_by_key(|rule| rule.matches);
        self.changed.sort_by_key(|(old, _)| old.matches);
    }

    /// What differs, rule by rule.
    pub fn changes<'a>(&'a self, names: &'a mut Names) -> impl Iterator<Item = Change> + 'a {
        let removed = self.removed.iter().map(|old| (Some(old), None));
        let changed = self.changed.iter().map(|(old, new)| (Some(old), Some(new)));
        let added = self.added.iter().map(|new| (None, Some(new)));
        let all = removed.chain(changed).chain(added);
        all.map(|(old, new)| names.change(old, new))
    }

    /// The changes that make one the other.
    pub fn plan(self) -> Plan {
        let changed = self.changed.into_iter().map(|(_, new)| new);
        Plan {
            put: self.added.into_iter().chain(changed).collect(),
            delete: self.removed.iter().map(|rule| rule.matches).collect(),
        }
    }
}

/// The devices that packets are sent to.
pub fn egress<'a>(rules: impl Iterator<Item = &'a Rule>) -> BTreeSet<u32> {
    let mut all = BTreeSet::new();
    for rule in rules {
        let backends = rule.backends.iter().map(|backend| backend.ifindex);
        all.extend(backends.chain(rule.action.ifindex()));
    }
    all.remove(&0);
    all
}
