//! The counters of backends, and of rules without them.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};

use super::allocator::{Allocator, Marks};
use super::banks::{Banks, Kind};
use super::{Pins, abi};
use crate::model::Counter;

pub struct CounterBanks {
    banks: Banks,
    /// Which are free, as this run's change has it so far.
    allocator: RefCell<Allocator>,
}

const WORDS: usize = size_of::<abi::counter>() / size_of::<u64>();

/// The cells of a counter in a bank's memory, one for each CPU.
fn cells(bank: &[AtomicU64], counter: u32) -> impl Iterator<Item = &[AtomicU64]> {
    let index = counter % abi::BANK_COUNTERS;
    bank.chunks_exact(WORDS)
        .skip(index as usize)
        .step_by(abi::BANK_COUNTERS as usize)
}

impl CounterBanks {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(CounterBanks {
            banks: Banks::pinned(pins, Kind::Counters)?,
            allocator: RefCell::default(),
        })
    }

    /// What each CPU has counted, by its number; none where there is no such bank, as in a rule that this command
    /// did not write.
    pub fn by_cpu(&self, counter: u32) -> Result<impl Iterator<Item = Counter>> {
        let bank = self.banks.memory(counter / abi::BANK_COUNTERS)?;
        let cells = bank.into_iter().flat_map(move |bank| cells(bank, counter));
        Ok(cells.map(|cell| Counter {
            packets: cell[0].load(Relaxed),
            bytes: cell[1].load(Relaxed),
        }))
    }

    /// Begins a change: only what is stored is taken.
    pub fn begin(&self) -> Result<()> {
        *self.allocator.borrow_mut() = self.banks.allocator()?;
        Ok(())
    }

    /// How many belong to nobody.
    pub fn free(&self) -> usize {
        self.allocator.borrow().free()
    }

    /// How many are taken, with those that changes have left.
    pub fn taken(&self) -> usize {
        self.allocator.borrow().taken()
    }

    /// Takes as many free counters, and sets them to zero. All banks that they need are made first.
    pub fn create(&self, needed: usize) -> Result<Vec<u32>> {
        let mut allocator = self.allocator.borrow_mut();
        let missing = needed.saturating_sub(allocator.free());
        let banks = missing.div_ceil(abi::BANK_COUNTERS as usize);
        self.banks.extend(&mut allocator, banks as u32)?;
        let mut counters = Vec::with_capacity(needed);
        for _ in 0..needed {
            counters.push(allocator.take(1).context("the banks were just made")?);
        }
        for &counter in &counters {
            self.reset(counter)?;
        }
        Ok(counters)
    }

    fn reset(&self, counter: u32) -> Result<()> {
        let bank = self.banks.memory(counter / abi::BANK_COUNTERS)?;
        let cells = bank.into_iter().flat_map(|bank| cells(bank, counter));
        cells.flatten().for_each(|word| word.store(0, Relaxed));
        Ok(())
    }

    /// Stores what is taken.
    pub fn store(&self) -> Result<()> {
        self.banks.store(&mut self.allocator.borrow_mut())
    }

    /// Marks for counters that are in use.
    pub fn marks(&self) -> Marks {
        Marks::new(self.allocator.borrow().banks())
    }

    /// Those that are taken and not marked.
    pub fn unmarked(&self, marks: &Marks) -> Vec<u32> {
        self.allocator.borrow().unmarked(marks).collect()
    }

    /// Frees all counters but those that are marked. The caller has waited until no packet is counted under
    /// another.
    pub fn keep_only(&self, marks: &Marks) -> Result<()> {
        self.allocator.borrow_mut().keep_only(marks);
        self.store()
    }
}
