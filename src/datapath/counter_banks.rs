//! The backends' counters, in banks. A bank is made when all others are full, so that few backends take
//! little memory.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};

use super::bpffs::{At, exists, remove_file};
use super::cause::exit_code;
use super::maps::{self, Full, Map};
use super::permissions::{group_of, share_pin};
use super::{Pins, abi, refusal, sys};
use crate::error::{Exit, Failure, failure};
use crate::host::kernel;
use crate::model::Counter;

pub struct CounterBanks {
    state: PathBuf,
    /// The map of maps in which the program looks a bank up.
    outer: MapHandle,
    banks: Map<u32, abi::counter_bitmap>,
    /// The banks that this run has mapped so far.
    open: RefCell<BTreeMap<u32, Rc<Bank>>>,
}

/// Counters of a bank that no backend has.
struct Free {
    number: u32,
    /// The bank's bitmap once they are taken.
    used: abi::counter_bitmap,
    indexes: Vec<u32>,
}

fn count(free: &[Free]) -> usize {
    free.iter().map(|bank| bank.indexes.len()).sum()
}

/// A bank's memory: for each CPU in turn, `BANK_COUNTERS` counters of two words.
struct Bank(sys::Words);

impl Bank {
    fn open(path: &Path) -> Result<Self> {
        let map = open(path)?;
        let words = sys::Words::map(&map).at("cannot map", path)?;
        Ok(Bank(words))
    }

    /// The cells of a counter, one for each CPU.
    fn cells(&self, index: u32) -> impl Iterator<Item = &[AtomicU64]> {
        self.0
            .chunks_exact(COUNTER_WORDS)
            .skip(index as usize)
            .step_by(abi::BANK_COUNTERS as usize)
    }

    fn total(&self, index: u32) -> Counter {
        let mut total = Counter::default();
        for cell in self.cells(index) {
            total += Counter {
                packets: cell[0].load(Relaxed),
                bytes: cell[1].load(Relaxed),
            };
        }
        total
    }

    fn reset(&self, index: u32) {
        for cell in self.cells(index) {
            cell.iter().for_each(|word| word.store(0, Relaxed));
        }
    }
}

fn open(path: &Path) -> Result<MapHandle> {
    MapHandle::from_pinned_path(path).at("cannot open", path)
}

const BANK: &str = "bank-";

/// Whether a pin is a bank's.
pub fn is_bank(name: &str) -> bool {
    name.starts_with(BANK)
}

/// The pin of a bank.
pub fn pin(number: u32) -> String {
    format!("{BANK}{number}")
}

/// Creates a bank, which is neither pinned nor in the map of maps.
pub fn create() -> Result<MapHandle> {
    let counters = kernel::cpu_numbers()? * abi::BANK_COUNTERS;
    let flags = libbpf_sys::BPF_F_MMAPABLE;
    maps::create::<u32, abi::counter>("counters", MapType::Array, counters, flags)
        .map_err(|error| refusal::of_map("counters", error))
}

/// Puts a bank where the program looks it up.
pub fn put(outer: &impl MapCore, number: u32, bank: &MapHandle) -> Result<()> {
    let fd = bank.as_fd().as_raw_fd();
    Ok(outer.update(&number.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)?)
}

/// Puts all banks there in one call, because the kernel waits for all programs after each call. Before
/// Linux 5.19 they go one by one.
fn put_all(outer: &MapHandle, numbers: &[u32], banks: &[MapHandle]) -> Result<()> {
    let keys: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
    let fds = banks.iter().map(|bank| bank.as_fd().as_raw_fd());
    let values: Vec<u8> = fds.flat_map(RawFd::to_ne_bytes).collect();
    let (count, any) = (numbers.len() as u32, MapFlags::ANY);
    if outer.update_batch(&keys, &values, count, any, any).is_ok() {
        return Ok(());
    }
    numbers
        .iter()
        .zip(banks)
        .try_for_each(|(&number, bank)| put(outer, number, bank))
}

impl CounterBanks {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(CounterBanks {
            state: pins.state(),
            outer: open(&pins.map("counters"))?,
            banks: Map::shared(pins, "counter_bitmaps")?,
            open: RefCell::default(),
        })
    }

    fn pin(&self, number: u32) -> PathBuf {
        self.state.join(pin(number))
    }

    fn bank(&self, number: u32) -> Result<Option<Rc<Bank>>> {
        if let Some(open) = self.open.borrow().get(&number) {
            return Ok(Some(open.clone()));
        }
        let path = self.pin(number);
        if !exists(&path)? {
            return Ok(None);
        }
        let bank = Rc::new(Bank::open(&path)?);
        self.open.borrow_mut().insert(number, bank.clone());
        Ok(Some(bank))
    }

    /// The sum over all CPUs; zero where there is no such bank, as in a rule that this command did not write.
    pub fn total(&self, counter: u32) -> Result<Counter> {
        let bank = self.bank(counter / abi::BANK_COUNTERS)?;
        Ok(bank.map_or_else(Counter::default, |bank| {
            bank.total(counter % abi::BANK_COUNTERS)
        }))
    }

    /// Takes as many free counters, and sets them to zero. All banks that they need are made first.
    pub fn create(&self, needed: usize) -> Result<Vec<u32>> {
        let free = self.free(needed)?;
        if count(&free) < needed {
            return Err(Failure::new(FULL));
        }
        self.make(&free)?;
        let mut counters = Vec::with_capacity(needed);
        for Free {
            number,
            used,
            indexes,
        } in free
        {
            let bank = self.bank(number)?.context("the bank was just made")?;
            indexes.iter().for_each(|&index| bank.reset(index));
            self.banks.put(&number, &used)?;
            let first = number * abi::BANK_COUNTERS;
            counters.extend(indexes.iter().map(|index| first + index));
        }
        Ok(counters)
    }

    /// Makes the banks that so many more counters need, as far as there may be any.
    pub fn reserve(&self, count: usize) -> Result<()> {
        self.make(&self.free(count)?)
    }

    /// Where as many free counters are; fewer where all banks are full.
    fn free(&self, count: usize) -> Result<Vec<Free>> {
        let mut free = Vec::new();
        let mut missing = count;
        for number in 0..abi::COUNTER_BANKS {
            if missing == 0 {
                break;
            }
            let mut used = self.used(number)?;
            let indexes = take(&mut used, missing);
            missing -= indexes.len();
            if !indexes.is_empty() {
                free.push(Free {
                    number,
                    used,
                    indexes,
                });
            }
        }
        Ok(free)
    }

    /// Whether so many more are within the limit, beside those of backends and those that killed runs
    /// have left. The banks have room for a batch beyond the limit.
    pub fn allow(&self, more: usize) -> Result<bool> {
        let needed = more + abi::BATCH_BACKENDS as usize;
        Ok(count(&self.free(needed)?) == needed)
    }

    /// Frees counters. The caller has waited until no packet is on its way to their backends.
    pub fn release(&self, counters: &HashSet<u32>) -> Result<()> {
        let banks: BTreeSet<u32> = counters.iter().map(|c| c / abi::BANK_COUNTERS).collect();
        let is_bank = |number: &u32| *number < abi::COUNTER_BANKS;
        banks.into_iter().filter(is_bank).try_for_each(|number| {
            let free = |index| counters.contains(&(number * abi::BANK_COUNTERS + index));
            let mut bank = self.used(number)?;
            let freed = (0..abi::BANK_COUNTERS).filter(|&index| free(index));
            freed.for_each(|index| bank.bitmap[byte(index)] &= !bit(index));
            self.banks.put(&number, &bank)
        })
    }

    /// Frees all counters but these.
    pub fn keep_only(&self, counters: &HashSet<u32>) -> Result<()> {
        (0..abi::COUNTER_BANKS).try_for_each(|number| {
            let used = |index| counters.contains(&(number * abi::BANK_COUNTERS + index));
            let mut bank: abi::counter_bitmap = abi::zero();
            let kept = (0..abi::BANK_COUNTERS).filter(|&index| used(index));
            kept.for_each(|index| bank.bitmap[byte(index)] |= bit(index));
            self.banks.put(&number, &bank)
        })
    }

    fn used(&self, number: u32) -> Result<abi::counter_bitmap> {
        Ok(self.banks.get(&number)?.unwrap_or_else(abi::zero))
    }

    /// Makes the banks that are missing. The pins come last: a run that is killed before leaves banks
    /// without users, which the next one replaces.
    fn make(&self, banks: &[Free]) -> Result<()> {
        let mut missing = Vec::new();
        for bank in banks {
            if self.bank(bank.number)?.is_none() {
                missing.push(bank.number);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let made = missing.iter().map(|_| create());
        let made = made.collect::<Result<Vec<_>>>().map_err(no_room)?;
        put_all(&self.outer, &missing, &made)?;
        let mut pairs = missing.iter().zip(made);
        pairs.try_for_each(|(&number, bank)| self.keep(number, &bank))
    }

    /// Pins a bank. It is shared with the group before it has its name, so that no member meets a bank
    /// that is closed.
    fn keep(&self, number: u32, bank: &MapHandle) -> Result<()> {
        let (path, staged) = (self.pin(number), self.state.join("bank-new"));
        remove_file(&staged)?;
        sys::pin(bank.as_fd(), &staged)?;
        if let Some(gid) = group_of(&self.state) {
            share_pin(&staged, gid)?;
        }
        fs::rename(&staged, &path).at("cannot make", &path)
    }
}

fn no_room(error: anyhow::Error) -> anyhow::Error {
    match exit_code(&error) {
        Exit::Permission => failure(
            Exit::Permission,
            "the counters are full, and only root can make room for more: let root add this one",
        ),
        _ => error.context("cannot make room for more counters"),
    }
}

/// Marks as many counters of a bank as are free, up to a number.
fn take(bank: &mut abi::counter_bitmap, most: usize) -> Vec<u32> {
    let free = |&index: &u32| bank.bitmap[byte(index)] & bit(index) == 0;
    let taken: Vec<u32> = (0..abi::BANK_COUNTERS).filter(free).take(most).collect();
    for &index in &taken {
        bank.bitmap[byte(index)] |= bit(index);
    }
    taken
}

/// The byte of a bank's bitmap that has a counter's bit.
fn byte(index: u32) -> usize {
    (index / 8) as usize
}

fn bit(index: u32) -> u8 {
    1 << (index % 8)
}

const COUNTER_WORDS: usize = size_of::<abi::counter>() / size_of::<u64>();

const FULL: Full = Full {
    name: "counters",
    limit: abi::COUNTER_BANKS * abi::BANK_COUNTERS,
};
