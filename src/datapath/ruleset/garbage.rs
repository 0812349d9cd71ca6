//! Sets, counters and locators that no rule names any more.
//!
//! Changed rules leave them, and so do runs that are killed half-way. What killed runs leave is swept
//! only when its room is needed.

use std::collections::HashSet;

use anyhow::Result;

use super::RuleStore;
use super::staging::Written;
use crate::datapath::cause::exit_code;
use crate::datapath::maps::says_full;
use crate::datapath::{abi, sys};
use crate::error::Exit;

/// What rules named before a change.
#[derive(Default)]
pub struct Retired {
    pub sets: Vec<u32>,
    pub counters: HashSet<u32>,
}

impl RuleStore {
    /// Tries, and tries once more after a sweep where a map is full, or where only root could make more
    /// room. What the first attempt has written is swept with the rest.
    pub(super) fn with_sweep<T>(
        &self,
        written: &Written,
        attempt: impl Fn() -> Result<T>,
    ) -> Result<T> {
        match attempt() {
            Err(error) if says_full(&error) || exit_code(&error) == Exit::Permission => {
                self.sweep(written)?;
                attempt()
            }
            result => result,
        }
    }

    /// Frees whatever no rule names, and no rule that is written but not published.
    pub(super) fn sweep(&self, written: &Written) -> Result<()> {
        let mut rules = written.values.clone();
        rules.extend(self.rules.entries()?.into_iter().map(|(_, value)| value));
        let mut counters = self.counters_of(&rules)?;
        counters.extend(&written.counters);
        let sets = rules.iter().map(|rule| rule.set).collect();
        sys::wait_for_readers();
        self.sets.keep_only(&sets)?;
        // In this order: a counter that is free has no locator.
        self.locators.keep_only(&counters)?;
        self.counters.keep_only(&counters)
    }

    /// Frees what a change has replaced, once no packet is on its way through it.
    pub(super) fn retire(&self, retired: &Retired) -> Result<()> {
        let Retired { sets, counters } = retired;
        if sets.is_empty() && counters.is_empty() {
            return Ok(());
        }
        sys::wait_for_readers();
        sets.iter().try_for_each(|&set| self.sets.delete(set))?;
        if counters.is_empty() {
            return Ok(());
        }
        self.detach_fragments(counters)?;
        // In this order: a counter that is free has no locator.
        self.locators.forget(counters)?;
        self.counters.release(counters)
    }

    /// Fragments follow their first one whatever becomes of the rule. They must not be counted for the
    /// backend that gets the counter next.
    fn detach_fragments(&self, counters: &HashSet<u32>) -> Result<()> {
        for (key, mut first) in self.fragments.entries()? {
            if counters.contains(&first.backend.counter) {
                first.backend.counter = abi::UNATTRIBUTED;
                self.fragments.put(&key, &first)?;
            }
        }
        Ok(())
    }
}
