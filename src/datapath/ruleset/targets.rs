//! What rules lead to: an action, or a set of backends with their actions and a Maglev table.

use std::collections::HashMap;

use anyhow::{Result, bail};

use super::codec::{stored_action, stored_backend, stored_hash};
use super::heap::Heap;
use super::key::StoredRule;
use crate::datapath::abi;
use crate::model::maglev::{self, Member};
use crate::model::{Action, Rule};

/// So many actions are remembered at a time.
const REMEMBERED: usize = 65536;

/// The target of a rule, and the rule's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub line: u32,
    pub counter: u32,
}

/// Writes targets. Rules share what is the same.
pub struct Targets<'a> {
    heap: &'a Heap,
    actions: HashMap<abi::line, u32>,
    tables: HashMap<Vec<Member>, u32>,
}

impl<'a> Targets<'a> {
    pub fn new(heap: &'a Heap) -> Self {
        Targets {
            heap,
            actions: HashMap::new(),
            tables: HashMap::new(),
        }
    }

    /// Writes what a rule leads to. `counters` are those of its backends, or its own; `table` is the line
    /// of the Maglev table that the rule has had, if its members are the same.
    pub fn write(&mut self, rule: &Rule, counters: &[u32], table: Option<u32>) -> Result<Target> {
        let only = match rule.backends.as_slice() {
            [] => stored_action(rule),
            [only] if rule.action == Action::Redirect => {
                Some(stored_backend(rule, only, abi::UNATTRIBUTED))
            }
            _ => None,
        };
        match (only, counters) {
            (Some(only), &[counter]) => Ok(Target {
                line: self.action(&only)?,
                counter,
            }),
            (None, [_, _, ..]) => Ok(Target {
                line: self.set(rule, counters, table)?,
                counter: abi::UNATTRIBUTED,
            }),
            _ => bail!("{}: a rule that leads nowhere", rule.matches),
        }
    }

    fn action(&mut self, action: &abi::action) -> Result<u32> {
        let words: abi::line = abi::from_bytes(abi::bytes_of(action))?;
        if let Some(&line) = self.actions.get(&words) {
            return Ok(line);
        }
        if self.actions.len() >= REMEMBERED {
            self.actions.clear();
        }
        let line = self.heap.take()?;
        self.heap.write(line, action)?;
        self.actions.insert(words, line);
        Ok(line)
    }

    fn set(&mut self, rule: &Rule, counters: &[u32], table: Option<u32>) -> Result<u32> {
        let members = self.heap.take_run(rule.backends.len() as u32)?;
        for ((line, backend), &counter) in (members..).zip(&rule.backends).zip(counters) {
            let action = stored_backend(rule, backend, counter);
            self.heap.write(line, &action)?;
        }
        let set = abi::set {
            kind: abi::ACTION_BALANCE as u8,
            hash: stored_hash(rule.hash),
            size: rule.backends.len() as u16,
            members,
            maglev: table.map_or_else(|| self.table(rule), Ok)?,
            ..Default::default()
        };
        let line = self.heap.take()?;
        self.heap.write(line, &set)?;
        Ok(line)
    }

    fn table(&mut self, rule: &Rule) -> Result<u32> {
        let members = rule.members();
        if let Some(&line) = self.tables.get(&members) {
            return Ok(line);
        }
        let mut table = maglev::table(&members, abi::MAGLEV_SLOTS as usize);
        table.resize((abi::MAGLEV_LINES * abi::LINE_BYTES) as usize, 0);
        let first = self.heap.take_run(abi::MAGLEV_LINES)?;
        for (line, slots) in (first..).zip(table.chunks_exact(abi::LINE_BYTES as usize)) {
            let words: abi::line = abi::from_bytes(slots)?;
            self.heap.write(line, &words)?;
        }
        self.tables.insert(members, first);
        Ok(first)
    }
}

/// The set that a rule leads to; None where it leads to an action.
pub fn set_of(heap: &Heap, target: u32) -> Result<Option<abi::set>> {
    let set: abi::set = heap.read(target)?;
    Ok(Some(set).filter(|set| u32::from(set.kind) == abi::ACTION_BALANCE))
}

/// The lines of a rule's actions.
pub fn actions_of(heap: &Heap, target: u32) -> Result<std::ops::Range<u32>> {
    Ok(match set_of(heap, target)? {
        Some(set) => {
            set.members
                ..set
                    .members
                    .saturating_add(set.size.min(u16::from(u8::MAX)).into())
        }
        None => target..target.saturating_add(1),
    })
}

/// A rule's actions with their counters. What this command has not written is no action.
pub fn read(heap: &Heap, rule: &StoredRule) -> Result<Vec<(abi::action, u32)>> {
    let is_set = set_of(heap, rule.target)?.is_some();
    let mut actions = Vec::new();
    for line in actions_of(heap, rule.target)? {
        let action: abi::action = heap.read(line)?;
        let counter = if is_set { action.counter } else { rule.counter };
        let is_action = match u32::from(action.kind) {
            abi::ACTION_REDIRECT | abi::ACTION_DRAINING | abi::ACTION_DOWN => true,
            abi::ACTION_FORWARD | abi::ACTION_PASS | abi::ACTION_DROP => !is_set,
            _ => false,
        };
        actions.extend(Some((action, counter)).filter(|_| is_action));
    }
    Ok(actions)
}
