//! The rules in the kernel.
//!
//! A rule has its only backend in its value, or names a set of backends. A named set does not change but
//! for devices that are gone: a change writes a new set, then the rule. That one map update is the moment
//! at which packets, and other runs, see the new state.

mod admission;
pub(super) mod codec;
mod draft;
mod egress;
mod garbage;
mod generation;
pub(super) mod locators;
mod prefix_lengths;
pub(super) mod room;
mod sets;
mod staging;
mod transaction;
mod unsupported;

use std::collections::HashMap;

use anyhow::{Result, bail};

use self::codec::{inline_backend, key_of, match_of, rule_of, set_size};
pub use self::draft::Draft;
use self::generation::Generation;
use self::locators::Locators;
use self::prefix_lengths::PrefixLengths;
use self::sets::Sets;
pub use self::transaction::{Staged, Transaction};
use crate::datapath::counter_banks::CounterBanks;
use crate::datapath::interface::interfaces;
use crate::datapath::ledger::Ledger;
use crate::datapath::maps::Map;
use crate::datapath::{Lock, Pins, abi, state};
use crate::model::{Counter, Failures, LedgerState, Match, Rule};

/// How often a rule is read again that others change meanwhile.
const READS: usize = 100;

type Entry = (abi::rule_key, abi::rule);

/// The rules of a network namespace, with their backends' counters.
pub struct RuleStore {
    generation: Generation,
    prefix_lengths: PrefixLengths,
    rules: Map<abi::rule_key, abi::rule>,
    sets: Sets,
    fragments: Map<abi::flow_key, abi::first_fragment>,
    counters: CounterBanks,
    ledger: Ledger,
    /// Whether all interfaces keep a ledger.
    counts_all: bool,
    locators: Locators,
    egress: Map<u32, u32>,
    /// The number of the directory that the maps were pinned in.
    inode: u64,
    pins: Pins,
}

impl RuleStore {
    /// Opens the maps. A run that only reads calls this within `datapath::read`.
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(RuleStore {
            inode: state::inode(pins)?,
            generation: Generation::open(pins)?,
            prefix_lengths: PrefixLengths::open(pins)?,
            rules: Map::shared(pins, "rules")?,
            sets: Sets::open(pins)?,
            fragments: Map::shared(pins, "fragments")?,
            counters: CounterBanks::open(pins)?,
            ledger: Ledger::open(pins)?,
            counts_all: interfaces(pins)?
                .iter()
                .all(|interface| interface.ledger == LedgerState::On),
            locators: Locators::open(pins)?,
            egress: Map::shared(pins, "egress")?,
            pins: pins.clone(),
        })
    }

    /// Opens the maps under the lock; takes a store that was opened before, unless others have detached
    /// and attached since: nobody reads its maps any more.
    pub fn reopen(before: Option<Self>, pins: &Pins, _: &Lock) -> Result<Self> {
        let current = state::inode(pins)?;
        match before.filter(|store| store.inode == current) {
            Some(store) => Ok(store),
            None => RuleStore::open(pins),
        }
    }

    /// How many matches have a rule.
    pub fn count(&self) -> Result<usize> {
        self.rules.count()
    }

    /// All rules in order, the most specific first; each as it was at one moment, whatever other runs do
    /// meanwhile.
    pub fn list(&self) -> Result<Vec<Rule>> {
        let before = self.generation.current()?;
        let entries = self.rules.entries()?;
        let mut rules = entries
            .iter()
            .map(|(key, value)| self.decode(match_of(key)?, value))
            .collect::<Result<Vec<_>>>()?;
        let mut locators = self.locators.all()?;
        for backend in rules.iter_mut().flat_map(|rule| &mut rule.backends) {
            let counter = backend.counter.as_ref();
            backend.origin = counter.and_then(|counter| locators.remove(counter));
        }
        let whole = |((_, value), rule): (&Entry, &Rule)| is_whole(value, rule);
        let has_changed = self.generation.has_changed_since(before)?;
        if has_changed || !entries.iter().zip(&rules).all(whole) {
            rules = self.read_again(&entries, rules)?;
        }
        rules.sort_by_key(|rule| rule.matches);
        Ok(rules)
    }

    /// Reads those rules again that others have changed while they were read: a value that was half
    /// changed is another one once that change is done.
    fn read_again(&self, entries: &[Entry], rules: Vec<Rule>) -> Result<Vec<Rule>> {
        self.generation.wait_for_changes()?;
        let pairs = entries.iter().zip(rules);
        let read: HashMap<&[u8], (&abi::rule, Rule)> = pairs
            .map(|((key, value), rule)| (abi::bytes_of(key), (value, rule)))
            .collect();
        let mut rules = Vec::new();
        for (key, value) in self.rules.entries()? {
            match read.get(abi::bytes_of(&key)) {
                Some((before, rule)) if same(before, &value) && is_whole(&value, rule) => {
                    rules.push(rule.clone());
                }
                _ => rules.extend(self.get(&match_of(&key)?)?),
            }
        }
        Ok(rules)
    }

    /// A rule as it was at one moment: a set is deleted, and a counter given to another backend, only
    /// once no rule names it.
    pub fn get(&self, matches: &Match) -> Result<Option<Rule>> {
        for _ in 0..READS {
            let Some((value, rule)) = self.read(matches)? else {
                return Ok(None);
            };
            // If it was being changed while it was read, it is another one after that change.
            self.generation.wait_for_changes()?;
            if self.stored(matches)?.is_some_and(|now| same(&now, &value)) {
                return Ok(Some(rule));
            }
        }
        bail!("{matches}: could not be read, because other runs change it all the time: try again");
    }

    /// A rule's value, and what it says. The caller holds the lock, or looks whether it has changed.
    fn read(&self, matches: &Match) -> Result<Option<(abi::rule, Rule)>> {
        let Some(value) = self.stored(matches)? else {
            return Ok(None);
        };
        let mut rule = self.decode(*matches, &value)?;
        for backend in &mut rule.backends {
            let counter = backend.counter;
            let origin = counter.map(|counter| self.locators.get(counter));
            backend.origin = origin.transpose()?.flatten();
        }
        Ok(Some((value, rule)))
    }

    /// All but the locators. A member that is missing was never written by us, or is no rule's any more;
    /// the rule can still be stored again or deleted.
    fn decode(&self, matches: Match, value: &abi::rule) -> Result<Rule> {
        let backends = match value.set {
            0 => vec![inline_backend(value)],
            set => self.sets.read(set)?,
        };
        Ok(rule_of(matches, &backends))
    }

    fn stored(&self, matches: &Match) -> Result<Option<abi::rule>> {
        if !unsupported::has(matches) {
            return Ok(None);
        }
        self.rules.get(&key_of(matches))
    }

    /// What was counted under the key of a backend's or a rule's counter.
    pub fn counter(&self, counter: Option<u32>) -> Result<Counter> {
        let total = counter.map(|counter| self.counters.total(counter));
        total.unwrap_or_else(|| Ok(Counter::default()))
    }

    /// What was lost after it was redirected, by the backends' counters; None where no interface keeps a
    /// ledger, or not all do.
    pub fn failures(&self) -> Result<Option<HashMap<u32, Failures>>> {
        if !self.counts_all {
            return Ok(None);
        }
        self.ledger.failures()
    }

    /// What was lost and is in no backend's failures: the ledger was full, or a poll took more frames
    /// than it holds. None where no ledger was ever kept.
    pub fn unattributed(&self) -> Result<Option<Failures>> {
        self.ledger.unattributed()
    }
}

/// Whether a rule has all of its backends.
fn is_whole(value: &abi::rule, rule: &Rule) -> bool {
    value.set == 0 || rule.backends.len() == set_size(value.set) as usize
}

fn same(one: &abi::rule, other: &abi::rule) -> bool {
    abi::bytes_of(one) == abi::bytes_of(other)
}
