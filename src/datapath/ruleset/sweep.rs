//! Lines, counters and locators that no rule set has any more.
//!
//! Changes leave what they replace, and so do runs that are killed half-way. It is swept when its room is
//! needed: as a change begins, when both slots have the same rule set.

use anyhow::Result;

use super::RuleStore;
use super::announced::is_announced;
use super::change::Change;
use super::codec;
use super::heap::Heap;
use super::key::StoredRule;
use super::room::Usage;
use super::services::Service;
use super::targets::{self, set_of};
use crate::datapath::allocator::Marks;
use crate::datapath::{abi, sys};

/// What a rule set reaches.
pub struct Reached {
    pub lines: Marks,
    counters: Marks,
    usage: Usage,
}

impl RuleStore {
    /// Frees whatever the rule set does not reach, of which a change is still a copy, and counts its rules.
    pub(super) fn sweep(&self, change: &mut Change) -> Result<()> {
        let reached = Reached::by(&self.heap, change, self.counters.marks())?;
        self.free_counters(&reached.counters)?;
        let mut usage = reached.usage;
        usage.locators = self.locators.count()?;
        let set = &mut change.staged.set;
        set.kept = self.heap.keep_only(&reached.lines)?;
        usage.store(set);
        Ok(())
    }

    fn free_counters(&self, reached: &Marks) -> Result<()> {
        if !self.counters.unmarked(reached).is_empty() {
            // Later fragments follow their first one, and may be on their way to be counted.
            self.detach_fragments(reached)?;
            sys::wait_for_readers();
        }
        // In this order: a counter that is free has no locator.
        self.locators.keep_only(reached)?;
        self.counters.keep_only(reached)
    }

    /// Fragments follow their first one whatever becomes of the rule. They must not be counted for the
    /// backend that gets the counter next.
    fn detach_fragments(&self, reached: &Marks) -> Result<()> {
        for (key, mut first) in self.fragments.entries()? {
            if !reached.has(first.action.counter) {
                first.action.counter = abi::UNATTRIBUTED;
                self.fragments.put(&key, &first)?;
            }
        }
        Ok(())
    }
}

impl Reached {
    /// What a change reaches that is still a copy of the live rule set. `counters` has no marks yet.
    pub fn by(heap: &Heap, change: &Change, counters: Marks) -> Result<Self> {
        let mut reached = Reached {
            lines: heap.marks(),
            counters,
            usage: Usage::default(),
        };
        for (first, count) in change.table_runs() {
            reached.lines.mark_run(first, count);
        }
        reached.lines.mark(change.staged.set.half);
        for line in change.service_lines() {
            // The lines of a service are its own: if one is marked, all are.
            if !reached.lines.has(line) {
                let service = Service::read(heap, line)?;
                service.lines.iter().for_each(|&l| reached.lines.mark(l));
            }
        }
        for number in change.numbers()? {
            reached.add(heap, number)?;
        }
        Ok(reached)
    }

    fn add(&mut self, heap: &Heap, number: u32) -> Result<()> {
        let rule = StoredRule::read(heap, number)?;
        self.lines.mark(number / 2);
        if is_announced(&rule.key) {
            return Ok(());
        }
        self.lines.mark(rule.target);
        if let Some(set) = set_of(heap, rule.target)? {
            let actions = targets::actions_of(heap, rule.target)?;
            self.lines.mark_run(set.members, actions.len() as u32);
            self.lines.mark_run(set.maglev, abi::MAGLEV_LINES);
        }
        let actions = targets::read(heap, &rule)?;
        let remembers = |(action, _): &_| codec::remembers(action);
        let remembers = actions.iter().any(remembers);
        self.usage.count(actions.len(), 0, remembers);
        for (_, counter) in actions {
            self.counters.mark(counter);
        }
        Ok(())
    }
}
