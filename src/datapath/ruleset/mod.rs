//! The rules in the kernel: see bpf/abi/ruleset.h for how they lie there.
//!
//! Everything that packets are decided by stands in memory that this command maps. There are two slots: a
//! change writes the next rule set into the one that packets do not see, and publishing it is one write.

mod announced;
mod change;
pub(super) mod codec;
mod draft;
mod egress;
mod heap;
mod job;
mod key;
pub(super) mod locators;
mod past;
mod ports;
mod probes;
#[cfg(test)]
mod reference;
pub(super) mod room;
mod services;
pub(super) mod slots;
mod staging;
mod sweep;
mod table;
mod targets;
mod transaction;
mod undo;
mod words;

use std::collections::HashMap;

use anyhow::{Result, bail};

use self::announced::is_announced;
use self::codec::{key_of, match_of, rule_of};
pub use self::draft::Draft;
pub use self::heap::FIRST_LINE;
use self::heap::Heap;
use self::key::{Key, StoredRule};
use self::locators::Locators;
pub use self::past::{Back, Trial};
use self::probes::ProbeMap;
use self::slots::{Slot, Slots};
use self::table::Table;
pub use self::transaction::{Staged, Transaction};
use crate::datapath::banks::{Banks, Kind};
use crate::datapath::counters::CounterBanks;
use crate::datapath::history::History;
use crate::datapath::ledger::Ledger;
use crate::datapath::maps::Map;
use crate::datapath::stances::interfaces;
use crate::datapath::{Lock, Pins, abi, state};
use crate::model::{Counter, CpuCounter, Failures, LedgerState, Match, Rule};

/// How often rules are read again that others change meanwhile.
const READS: usize = 100;

/// The rules of a network namespace, with their backends' counters.
pub struct RuleStore {
    pins: Pins,
    slots: Slots,
    heap: Heap,
    probes: ProbeMap,
    fragments: Map<abi::flow_key, abi::first_fragment>,
    counters: CounterBanks,
    ledger: Ledger,
    /// Whether all interfaces keep a ledger.
    counts_all: bool,
    locators: Locators,
    history: History,
    egress: Map<u32, u32>,
    paired: Map<u32, u32>,
    /// The number of the directory that the maps were pinned in.
    inode: u64,
}

impl RuleStore {
    /// Opens the maps. A run that only reads calls this within `datapath::read`.
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(RuleStore {
            inode: state::inode(pins)?,
            pins: pins.clone(),
            slots: Slots::open(pins)?,
            heap: Heap::new(Banks::pinned(pins, Kind::Lines)?),
            probes: ProbeMap::open(pins)?,
            fragments: Map::shared(pins, "fragments")?,
            counters: CounterBanks::open(pins)?,
            ledger: Ledger::open(pins)?,
            counts_all: interfaces(pins)?
                .iter()
                .all(|interface| interface.ledger == LedgerState::On),
            locators: Locators::open(pins)?,
            history: History::open(pins)?,
            egress: Map::shared(pins, "egress")?,
            paired: Map::shared(pins, "paired")?,
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

    /// The number of the rule set that packets see; each change gives another one.
    pub fn revision(&self) -> Result<u64> {
        Ok(self.slots.live()?.set.revision)
    }

    /// What is another number after each change, and after another first `attach`.
    pub fn version(&self) -> Result<(u64, u64)> {
        Ok((self.inode, self.revision()?))
    }

    /// How many matches have a rule.
    pub fn count(&self) -> Result<usize> {
        Ok(self.slots.live()?.set.rules as usize)
    }

    /// Whether a rule remembers connections.
    pub fn remembers(&self) -> Result<bool> {
        Ok(self.slots.live()?.set.remembering > 0)
    }

    /// Whether a rule announces its destination.
    pub fn announces(&self) -> Result<bool> {
        Ok(self.slots.live()?.set.announced > 0)
    }

    /// All rules in order, the most specific first, as they were at one moment, whatever other runs do
    /// meanwhile.
    pub fn list(&self) -> Result<Vec<Rule>> {
        let mut rules = self.list_unsorted()?;
        rules.sort_by_key(|rule| rule.matches);
        Ok(rules)
    }

    /// The same in no order, which takes less time.
    pub fn list_unsorted(&self) -> Result<Vec<Rule>> {
        self.read_whole("the rules", |live| self.read_all(live))
    }

    /// A rule as it was at one moment.
    pub fn get(&self, matches: &Match) -> Result<Option<Rule>> {
        let key = key_of(matches);
        self.read_whole(matches, |live| self.read(live, matches, &key))
    }

    /// Reads from the live slot until nobody has written another rule set into it meanwhile.
    fn read_whole<T>(
        &self,
        what: impl std::fmt::Display,
        read: impl Fn(&Slot) -> Result<T>,
    ) -> Result<T> {
        for _ in 0..READS {
            let live = self.slots.live()?;
            let found = read(&live);
            if self.slots.is_unchanged(&live)? {
                return found;
            }
        }
        bail!("{what}: could not be read, because other runs change it all the time: try again");
    }

    fn read_all(&self, live: &Slot) -> Result<Vec<Rule>> {
        let numbers = Table::of(&self.heap, &live.set).numbers(live.number)?;
        let mut rules = Vec::with_capacity(numbers.len());
        for number in numbers {
            let stored = StoredRule::read(&self.heap, number)?;
            if !is_announced(&stored.key) {
                rules.push(self.decode(match_of(&stored.key)?, &stored)?);
            }
        }
        let mut locators = self.locators.all()?;
        for backend in rules.iter_mut().flat_map(|rule| &mut rule.backends) {
            let counter = backend.counter.as_ref();
            backend.origin = counter.and_then(|counter| locators.remove(counter));
        }
        Ok(rules)
    }

    /// A rule. The caller holds the lock, or looks whether it has changed.
    fn read(&self, live: &Slot, matches: &Match, key: &Key) -> Result<Option<Rule>> {
        let Some(stored) = self.stored(live, key)? else {
            return Ok(None);
        };
        let mut rule = self.decode(*matches, &stored)?;
        for backend in &mut rule.backends {
            let counter = backend.counter;
            let origin = counter.map(|counter| self.locators.get(counter));
            backend.origin = origin.transpose()?.flatten();
        }
        Ok(Some(rule))
    }

    /// All but the locators. What this command has not written is no action; the rule can still be stored
    /// again or deleted.
    fn decode(&self, matches: Match, stored: &StoredRule) -> Result<Rule> {
        Ok(rule_of(matches, &targets::read(&self.heap, stored)?))
    }

    fn stored(&self, live: &Slot, key: &Key) -> Result<Option<StoredRule>> {
        let entry = Table::of(&self.heap, &live.set).find(live.number, key)?;
        let stored = entry.map(|entry| StoredRule::read(&self.heap, entry.number));
        stored.transpose()
    }

    /// What was counted under the key of a backend's or a rule's counter.
    pub fn counter(&self, counter: Option<u32>) -> Result<Counter> {
        Ok(match counter {
            Some(counter) => self.counters.by_cpu(counter)?.sum(),
            None => Counter::default(),
        })
    }

    /// The same by CPU; those that have counted nothing are left out.
    pub fn counter_by_cpu(&self, counter: Option<u32>) -> Result<Vec<CpuCounter>> {
        let Some(counter) = counter else {
            return Ok(Vec::new());
        };
        let cpus = (0..).zip(self.counters.by_cpu(counter)?);
        let some = cpus.filter(|(_, counter)| counter.packets > 0);
        Ok(some
            .map(|(cpu, counter)| CpuCounter { cpu, counter })
            .collect())
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
