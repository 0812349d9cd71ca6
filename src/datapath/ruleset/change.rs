//! The next rule set while it is written: which rules it has, in memory that packets do not see yet.

use anyhow::Result;

use super::heap::Heap;
use super::key::{Key, StoredRule};
use super::ports::Ports;
use super::probes::Probes;
use super::room::PROBES;
use super::services::Compiler;
use super::slots::Slot;
use super::table::{Entry, Table, buckets_for, is_outgrown};
use super::targets::Target;

pub struct Change<'a> {
    heap: &'a Heap,
    ports: &'a Ports,
    pub probes: Probes,
    pub staged: Slot,
}

impl<'a> Change<'a> {
    /// Makes the staged slot a copy of the live one, whatever a run that was killed has left in it.
    pub fn begin(
        heap: &'a Heap,
        ports: &'a Ports,
        probes: Probes,
        live: &Slot,
        staged: Slot,
    ) -> Result<Self> {
        ports.copy(live.number, staged.number);
        Table::of(heap, &staged.set).copy(live.number, staged.number)?;
        Ok(Change {
            heap,
            ports,
            probes,
            staged,
        })
    }

    fn table(&self) -> Table<'a> {
        Table::of(self.heap, &self.staged.set)
    }

    /// The rule that has a key.
    fn find(&self, key: &Key) -> Result<Option<Entry>> {
        self.table().find(self.staged.number, key)
    }

    /// Removes the rule that has a key.
    pub fn remove(&mut self, key: &Key) -> Result<()> {
        if let Some(entry) = self.find(key)? {
            self.table().clear(self.staged.number, &entry)?;
            self.probes.remove(key.probe, entry.number);
        }
        Ok(())
    }

    /// So many rules more announce an address, or less. What stands there of the live rule set stays as it
    /// is.
    pub fn announce(&mut self, key: &Key, by: i64) -> Result<()> {
        let mut rules = by;
        if let Some(entry) = self.find(key)? {
            rules += i64::from(StoredRule::read(self.heap, entry.number)?.counter);
            self.remove(key)?;
            self.staged.set.announced -= 1;
        }
        if rules > 0 {
            let counter = u32::try_from(rules)?;
            self.insert(key, Target { line: 0, counter })?;
            self.staged.set.announced += 1;
        }
        Ok(())
    }

    /// Makes a larger table where that is needed for so many more rules and announced addresses, of `rules`
    /// in the end.
    pub fn make_room(&mut self, rules: u32, more: u32) -> Result<()> {
        let rules = rules + self.staged.set.announced;
        if is_outgrown(&self.staged.set, rules, more) {
            self.rebuild(buckets_for(rules))?;
        }
        Ok(())
    }

    /// Makes a new table, for the rules of the staged slot alone.
    fn rebuild(&mut self, mut buckets: u32) -> Result<()> {
        let slot = self.staged.number;
        let numbers = self.table().numbers(slot)?;
        loop {
            let table = Table::make(self.heap, &mut self.staged.set, buckets)?;
            if self.fill(table, &numbers)? {
                self.staged.set.guarded = numbers.len() as u32;
                return Ok(());
            }
            buckets *= 2;
        }
    }

    fn fill(&self, table: Table, numbers: &[u32]) -> Result<bool> {
        for &number in numbers {
            let key = StoredRule::read(self.heap, number)?.key;
            if !table.insert(self.staged.number, &key, number)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Inserts a rule, whose target is written. There is none with its key.
    pub fn insert(&mut self, key: &Key, target: Target) -> Result<()> {
        let number = self.take_number(key)?;
        let rule = StoredRule {
            key: *key,
            target: target.line,
            counter: target.counter,
        };
        rule.write(self.heap, number)?;
        while !self.table().insert(self.staged.number, key, number)? {
            let buckets = self.staged.set.bucket_mask + 1;
            self.rebuild(2 * buckets)?;
        }
        self.staged.set.guarded = self.staged.set.guarded.saturating_add(1);
        self.probes.add(key.probe, number);
        Ok(())
    }

    /// A rule of IPv4 takes half a line.
    fn take_number(&mut self, key: &Key) -> Result<u32> {
        let half = &mut self.staged.set.half;
        if key.is_ipv6() {
            return Ok(self.heap.take()? * 2);
        }
        if *half != 0 {
            return Ok(std::mem::take(half) * 2 + 1);
        }
        *half = self.heap.take()?;
        Ok(*half * 2)
    }

    /// Compiles the services of the rules that were inserted and removed.
    pub fn compile(&mut self) -> Result<()> {
        PROBES.require(self.probes.staged())?;
        let changed = self.probes.changed();
        let slot = self.staged.number;
        Compiler::new(self.heap, self.ports, &self.probes, slot).compile(&changed)
    }

    /// The numbers of all rules.
    pub fn numbers(&self) -> Result<Vec<u32>> {
        self.table().numbers(self.staged.number)
    }

    /// The lines of the table and its guards.
    pub fn table_runs(&self) -> [(u32, u32); 2] {
        self.table().runs()
    }

    /// The lines of services.
    pub fn service_lines(&self) -> Vec<u32> {
        self.ports.lines(self.staged.number)
    }
}
