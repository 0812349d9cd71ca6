//! The lines in which rules lie: 64 bytes each, in banks. Line 0 is nothing.
//!
//! What a packet can reach does not change, so a line is written before anything that packets read names
//! it. Lines are not freed one by one: what no rule set reaches is swept when its room is needed.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};

use crate::datapath::abi::{self, Plain};
use crate::datapath::allocator::{Allocator, Marks};
use crate::datapath::banks::Banks;
use crate::datapath::bitmap::BITS;
use crate::datapath::maps::Full;
use crate::error::Failure;

/// A line in memory.
pub type Line = [AtomicU64; 8];

/// The first line that is given to anybody.
pub const FIRST_LINE: u32 = 1;

/// So many lines may be garbage at any time; more only in proportion to those in use.
const FREELY_WASTED: usize = BITS as usize;

pub struct Heap {
    banks: Banks,
    /// Which are free, as this run's change has it so far.
    allocator: RefCell<Allocator>,
    /// A sweep is worth its time, before a bank is made.
    has_garbage: Cell<bool>,
}

impl Heap {
    pub fn new(banks: Banks) -> Self {
        Heap {
            banks,
            allocator: RefCell::default(),
            has_garbage: Cell::new(false),
        }
    }

    /// Begins a change: only what is stored is taken. `kept` lines were in use after the last sweep.
    pub fn begin(&self, kept: u32) -> Result<()> {
        let allocator = self.banks.allocator()?;
        let may_be_taken = 2 * kept as usize + FREELY_WASTED;
        self.has_garbage.set(allocator.taken() > may_be_taken);
        *self.allocator.borrow_mut() = allocator;
        Ok(())
    }

    /// A line; None where it is in no bank, as in rules that this command did not write.
    pub fn line(&self, number: u32) -> Result<Option<&Line>> {
        let bank = self.banks.memory(number / abi::BANK_LINES)?;
        let index = (number % abi::BANK_LINES) as usize;
        Ok(bank.and_then(|bank| bank.as_chunks().0.get(index)))
    }

    /// A line to write to.
    pub fn line_to_write(&self, number: u32) -> Result<&Line> {
        self.line(number)?
            .with_context(|| format!("there is no line {number}"))
    }

    /// What a line says; zeros where it is in no bank, as packets have it.
    pub fn read<T: Plain>(&self, number: u32) -> Result<T> {
        const { assert!(size_of::<T>() == 64) };
        let mut words = [0; 8];
        if let Some(line) = self.line(number)? {
            words = load(line);
        }
        abi::from_bytes(abi::bytes_of(&words))
    }

    /// Writes a line that nobody reads yet.
    pub fn write<T: Plain>(&self, number: u32, value: &T) -> Result<()> {
        const { assert!(size_of::<T>() == 64) };
        let line = self.line_to_write(number)?;
        let words: [u64; 8] = abi::from_bytes(abi::bytes_of(value))?;
        for (to, from) in line.iter().zip(words) {
            to.store(from, Relaxed);
        }
        Ok(())
    }

    /// What half a line says: number / 2 is the line's.
    pub fn read_half<T: Plain>(&self, number: u32) -> Result<T> {
        const { assert!(size_of::<T>() == 32) };
        let words: [u64; 8] = self.read(number / 2)?;
        let start = (number % 2 * 4) as usize;
        let mut half = [0; 4];
        half.copy_from_slice(&words[start..start + 4]);
        abi::from_bytes(abi::bytes_of(&half))
    }

    /// Writes half a line that nobody reads yet.
    pub fn write_half<T: Plain>(&self, number: u32, value: &T) -> Result<()> {
        const { assert!(size_of::<T>() == 32) };
        let line = self.line_to_write(number / 2)?;
        let words: [u64; 4] = abi::from_bytes(abi::bytes_of(value))?;
        let half = line.iter().skip((number % 2 * 4) as usize);
        for (to, from) in half.zip(words) {
            to.store(from, Relaxed);
        }
        Ok(())
    }

    /// Takes a line.
    pub fn take(&self) -> Result<u32> {
        self.take_run(1)
    }

    /// Takes lines that follow one another: at most a bank, or whole banks. What is in them is old.
    pub fn take_run(&self, count: u32) -> Result<u32> {
        if let Some(first) = self.allocator.borrow_mut().take(count) {
            return Ok(first);
        }
        self.grow(count.div_ceil(BITS))?;
        let taken = self.allocator.borrow_mut().take(count);
        taken.context("the banks were just made")
    }

    /// Takes lines that follow one another, and sets them to zero.
    pub fn take_zeroed(&self, count: u32) -> Result<u32> {
        let first = self.take_run(count)?;
        for number in first..first + count {
            self.write(number, &[0u64; 8])?;
        }
        Ok(first)
    }

    /// Makes the banks that so many lines need, all at once: the kernel waits for all programs each time.
    pub fn reserve(&self, lines: usize) -> Result<()> {
        let missing = lines.saturating_sub(self.allocator.borrow().free());
        match missing.div_ceil(BITS as usize) {
            0 => Ok(()),
            banks => self.grow(banks as u32),
        }
    }

    /// Makes at least so many banks; the more there are, the more.
    fn grow(&self, banks: u32) -> Result<()> {
        if self.has_garbage.get() {
            return Err(Failure::new(WORTH_A_SWEEP));
        }
        let mut allocator = self.allocator.borrow_mut();
        let there = allocator.banks();
        let more = banks.max(there / 8).min(abi::LINE_BANKS - there);
        self.banks.extend(&mut allocator, more.max(banks))
    }

    /// Stores what is taken.
    pub fn store(&self) -> Result<()> {
        self.banks.store(&mut self.allocator.borrow_mut())
    }

    /// Marks for lines that are in use.
    pub fn marks(&self) -> Marks {
        let mut marks = Marks::new(self.allocator.borrow().banks());
        marks.mark_run(0, FIRST_LINE);
        marks
    }

    /// Frees all lines but those that are marked, and tells how many are. The caller has waited until no
    /// packet is on its way through another.
    pub fn keep_only(&self, marks: &Marks) -> Result<u32> {
        self.allocator.borrow_mut().keep_only(marks);
        self.has_garbage.set(false);
        self.store()?;
        Ok(self.allocator.borrow().taken() as u32)
    }
}

/// The words of a line.
pub fn load(line: &Line) -> [u64; 8] {
    std::array::from_fn(|index| line[index].load(Relaxed))
}

const WORTH_A_SWEEP: Full = Full {
    name: "lines",
    limit: abi::LINE_BANKS * abi::BANK_LINES,
};

#[cfg(test)]
pub mod plain {
    use super::*;
    use crate::datapath::banks::plain::Plain;

    /// A heap in this process's own memory, in which line 0 is taken.
    pub fn heap() -> Heap {
        let heap = Heap::new(Banks::new(Plain::default()));
        heap.begin(0).unwrap();
        assert_eq!(heap.take().unwrap(), 0);
        heap
    }
}

#[cfg(test)]
mod tests {
    use super::plain::heap;
    use super::*;

    #[test]
    fn halves_of_a_line_are_apart() {
        let heap = heap();
        let line = heap.take_zeroed(1).unwrap();
        heap.write_half(line * 2 + 1, &[7u64; 4]).unwrap();
        assert_eq!(heap.read_half::<[u64; 4]>(line * 2).unwrap(), [0; 4]);
        assert_eq!(heap.read_half::<[u64; 4]>(line * 2 + 1).unwrap(), [7; 4]);
        let words: [u64; 8] = heap.read(line).unwrap();
        assert_eq!(words, [0, 0, 0, 0, 7, 7, 7, 7]);
    }

    #[test]
    fn lines_beyond_all_banks_are_nothing() {
        let heap = heap();
        assert_eq!(heap.read::<[u64; 8]>(u32::MAX).unwrap(), [0; 8]);
        assert!(heap.write(u32::MAX, &[0u64; 8]).is_err());
    }

    #[test]
    fn a_sweep_comes_before_another_bank_where_much_may_be_garbage() {
        let heap = heap();
        for _ in 1..3 * BITS {
            heap.take().unwrap();
        }
        heap.store().unwrap();
        heap.begin(BITS).unwrap();
        assert!(heap.take_run(BITS).is_ok(), "3 of 3 may be taken");
        heap.store().unwrap();
        heap.begin(BITS).unwrap();
        let error = heap.reserve(BITS as usize).unwrap_err();
        assert!(crate::datapath::maps::says_full(&error));
        assert_eq!(heap.keep_only(&heap.marks()).unwrap(), 1);
        assert_eq!(heap.take().unwrap(), FIRST_LINE);
    }
}
