//! Whether a plan finds room, which is known before the first change is made for it.

use std::collections::HashSet;

use anyhow::Result;

use super::codec::{inline_backend, match_of, needs_set, set_size};
use super::room::{LOCATORS, Usage, batch_of};
use super::{RuleStore, abi, unsupported};
use crate::model::{Match, Plan, Rule};

/// Rules to a system call, of those that are new and need no set.
const BATCH: usize = 16384;

/// What one change publishes: rules that are stored, and rules that are deleted.
#[derive(Default)]
pub struct Part {
    pub put: Vec<Rule>,
    pub delete: Vec<Match>,
    /// There is no rule yet that has one of these matches.
    pub is_new: bool,
}

impl Part {
    fn put(put: Vec<Rule>) -> Self {
        Part {
            put,
            ..Part::default()
        }
    }

    fn delete(delete: Vec<Match>) -> Self {
        Part {
            delete,
            ..Part::default()
        }
    }
}

impl RuleStore {
    /// Checks that a plan finds room, and splits it into what is published at once: all of it, or
    /// batches where it is large.
    pub(super) fn admit(&self, mut plan: Plan) -> Result<Vec<Part>> {
        plan.put.iter().try_for_each(unsupported::refuse)?;
        plan.put.sort_by_key(|rule| rule.matches);
        plan.delete.sort();
        if batch_of(&plan.put) < plan.put.len() || plan.delete.len() > abi::BATCH_RULES as usize {
            let there = self.require_room(&plan)?;
            return Ok(parts(plan, there));
        }
        // What killed runs have left is counted, too: where that takes the room, the rules are counted.
        if !self.fits_beside_everything(&plan.put)? {
            self.require_room(&plan)?;
        }
        let Plan { put, delete } = plan;
        Ok(vec![Part {
            put,
            ..Part::delete(delete)
        }])
    }

    /// Whether rules find room if all of their backends are new, which takes no look at other rules.
    fn fits_beside_everything(&self, rules: &[Rule]) -> Result<bool> {
        let mut usage = Usage::of(rules);
        if usage.members > 0 {
            self.sets.add_to(&mut usage)?;
        }
        if usage.locators > 0 {
            usage.locators += self.locators.count()?;
        }
        self.prefix_lengths.add_to(&mut usage.services)?;
        Ok(self.counters.allow(usage.backends)? && usage.has_room())
    }

    /// Counts all rules as they are to be; returns the sets of those that the plan stores again.
    fn require_room(&self, plan: &Plan) -> Result<Vec<Option<u32>>> {
        if plan.put.is_empty() {
            return Ok(Vec::new());
        }
        let mut usage = Usage::of(&plan.put);
        let mut there = vec![None; plan.put.len()];
        let mut others = Vec::new();
        for batch in self.rules.batches()? {
            for (key, value) in batch? {
                let matches = match_of(&key)?;
                if let Ok(place) = plan.put.binary_search_by_key(&matches, |r| r.matches) {
                    there[place] = Some(value.set);
                } else if plan.delete.binary_search(&matches).is_err() {
                    usage.add_stored(&key, &value);
                    others.extend(Some(value).filter(|_| usage.locators > 0));
                }
            }
        }
        // Those of other rules are looked at only where all that are stored would take the room.
        if usage.locators > 0 && !LOCATORS.allows(usage.locators + self.locators.count()?) {
            let counters = self.counters_of(&others)?;
            usage.locators += self.locators.counters()?.intersection(&counters).count();
        }
        usage.require_room()?;
        Ok(there)
    }

    /// The counters of the backends that rules have.
    pub(super) fn counters_of(&self, rules: &[abi::rule]) -> Result<HashSet<u32>> {
        let sets: HashSet<u32> = rules.iter().map(|rule| rule.set).collect();
        let single = rules.iter().filter(|rule| rule.set == 0);
        let mut counters: HashSet<u32> = single.map(|r| inline_backend(r).counter).collect();
        let members = self.sets.members()?;
        let members = members.iter().filter(|(set, _)| sets.contains(set));
        counters.extend(members.map(|(_, member)| member.counter));
        Ok(counters)
    }
}

/// What frees room comes first, so that there is never more than in the end: deleted rules, then rules
/// that lose backends or locators. New rules that need no set, the many, go in large batches.
fn parts(plan: Plan, there: Vec<Option<u32>>) -> Vec<Part> {
    let delete = batches(plan.delete, many);
    let mut parts: Vec<Part> = delete.map(Part::delete).collect();
    let (mut shrinking, mut new, mut growing) = (Vec::new(), Vec::new(), Vec::new());
    for (rule, there) in plan.put.into_iter().zip(there) {
        let members = rule.backends.len() * usize::from(needs_set(&rule));
        let forgets = rule.backends.iter().all(|backend| backend.origin.is_none());
        let before = |set| set_size(set) as usize;
        match there {
            Some(set) if members < before(set) => shrinking.push(rule),
            Some(set) if members == before(set) && forgets => shrinking.push(rule),
            None if members == 0 => new.push(rule),
            _ => growing.push(rule),
        }
    }
    let new = batches(new, many).map(|put| Part {
        is_new: true,
        ..Part::put(put)
    });
    parts.extend(batches(shrinking, batch_of).map(Part::put));
    parts.extend(new);
    parts.extend(batches(growing, batch_of).map(Part::put));
    parts
}

fn many<T>(items: &[T]) -> usize {
    items.len().min(BATCH)
}

fn batches<T>(items: Vec<T>, size: fn(&[T]) -> usize) -> impl Iterator<Item = Vec<T>> {
    let mut rest = items.into_iter();
    std::iter::from_fn(move || {
        let count = size(rest.as_slice());
        (count > 0).then(|| rest.by_ref().take(count).collect())
    })
}
