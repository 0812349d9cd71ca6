//! Memory in banks: array maps that the program looks up in a map of maps, and this command maps into its own
//! memory. A bank is made when all others are full, so that few rules take little memory.

use std::cell::OnceCell;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use anyhow::Result;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};

use super::allocator::Allocator;
use super::bitmap::Bitmap;
use super::bpffs::{At, exists, remove_file};
use super::cause::exit_code;
use super::maps::{self, Full, Map};
use super::permissions::{group_of, share_pin};
use super::{Pins, abi, refusal, sys};
use crate::error::{Exit, Failure, failure};
use crate::host::kernel;

/// What is in banks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For each CPU in turn, `BANK_COUNTERS` counters.
    Counters,
    /// `BANK_LINES` lines.
    Lines,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Counters, Kind::Lines];

    /// The map of maps.
    fn outer(self) -> &'static str {
        match self {
            Kind::Counters => "counters",
            Kind::Lines => "lines",
        }
    }

    fn bitmaps(self) -> &'static str {
        match self {
            Kind::Counters => "counter_bitmaps",
            Kind::Lines => "line_bitmaps",
        }
    }

    /// How the names of the banks' pins begin.
    fn prefix(self) -> &'static str {
        match self {
            Kind::Counters => "counter-bank-",
            Kind::Lines => "line-bank-",
        }
    }

    fn most(self) -> u32 {
        match self {
            Kind::Counters => abi::COUNTER_BANKS,
            Kind::Lines => abi::LINE_BANKS,
        }
    }

    /// The pin of a bank.
    pub fn pin(self, number: u32) -> String {
        format!("{}{number}", self.prefix())
    }

    /// Creates a bank, which is neither pinned nor in the map of maps.
    pub fn create(self) -> Result<MapHandle> {
        let flags = libbpf_sys::BPF_F_MMAPABLE;
        let (name, array) = (self.outer(), MapType::Array);
        let made = match self {
            Kind::Counters => {
                let entries = kernel::cpu_numbers()? * abi::BANK_COUNTERS;
                maps::create::<u32, abi::counter>(name, array, entries, flags)
            }
            Kind::Lines => maps::create::<u32, abi::line>(name, array, abi::BANK_LINES, flags),
        };
        made.map_err(|error| refusal::of_map(name, error))
    }
}

/// Whether a pin is a bank's.
pub fn is_bank(name: &str) -> bool {
    Kind::ALL.iter().any(|kind| name.starts_with(kind.prefix()))
}

/// Puts a bank where the program looks it up.
pub fn put(outer: &impl MapCore, number: u32, bank: &impl AsFd) -> Result<()> {
    let fd = bank.as_fd().as_raw_fd();
    Ok(outer.update(&number.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)?)
}

/// Puts banks there, from a number on. In one call, because the kernel waits for all programs after each call.
/// Before Linux 5.19 they go one by one.
pub fn put_all(outer: &MapHandle, first: u32, banks: &[impl AsFd]) -> Result<()> {
    let numbers = first..first + banks.len() as u32;
    let keys: Vec<u8> = numbers.flat_map(u32::to_ne_bytes).collect();
    let fds = banks.iter().map(|bank| bank.as_fd().as_raw_fd());
    let values: Vec<u8> = fds.flat_map(RawFd::to_ne_bytes).collect();
    let (count, any) = (banks.len() as u32, MapFlags::ANY);
    if outer.update_batch(&keys, &values, count, any, any).is_ok() {
        return Ok(());
    }
    let mut pairs = (first..).zip(banks);
    pairs.try_for_each(|(number, bank)| put(outer, number, bank))
}

/// Takes the first numbers of the first bank for ever.
pub fn take_first(bitmaps: &impl MapCore, count: u32) -> Result<()> {
    let mut taken = Bitmap::default();
    (0..count).for_each(|number| taken.take(number));
    let value = taken.stored();
    Ok(bitmaps.update(&0u32.to_ne_bytes(), abi::bytes_of(&value), MapFlags::ANY)?)
}

/// Where banks are.
pub trait Source {
    /// How many there may be.
    fn most(&self) -> u32;
    /// How many there are.
    fn count(&self) -> Result<u32>;
    /// None where there is no such bank.
    fn open(&self, number: u32) -> Result<Option<sys::Words>>;
    /// Makes so many, from a number on.
    fn make(&self, first: u32, count: u32) -> Result<()>;
    fn bitmap(&self, number: u32) -> Result<Bitmap>;
    fn put_bitmap(&self, number: u32, bitmap: &Bitmap) -> Result<()>;
    /// Why there are no more.
    fn full(&self) -> anyhow::Error;
}

/// The banks of a kind, as far as this run has mapped them.
pub struct Banks {
    source: Box<dyn Source>,
    open: Box<[OnceCell<sys::Words>]>,
}

impl Banks {
    pub fn new(source: impl Source + 'static) -> Self {
        let open = (0..source.most()).map(|_| OnceCell::new());
        Banks {
            open: open.collect(),
            source: Box::new(source),
        }
    }

    /// The banks that are pinned.
    pub fn pinned(pins: &Pins, kind: Kind) -> Result<Self> {
        Ok(Banks::new(Pinned {
            state: pins.state(),
            kind,
            outer: open(&pins.map(kind.outer()))?,
            bitmaps: Map::shared(pins, kind.bitmaps())?,
        }))
    }

    /// A bank's memory; None where there is no such bank, as in rules that this command did not write.
    pub fn memory(&self, number: u32) -> Result<Option<&[AtomicU64]>> {
        let Some(place) = self.open.get(number as usize) else {
            return Ok(None);
        };
        if place.get().is_none()
            && let Some(words) = self.source.open(number)?
        {
            let _ = place.set(words);
        }
        Ok(place.get().map(|words| &**words))
    }

    /// What is free now.
    pub fn allocator(&self) -> Result<Allocator> {
        let numbers = 0..self.source.count()?;
        let bitmaps = numbers.map(|number| self.source.bitmap(number));
        Ok(Allocator::new(bitmaps.collect::<Result<Vec<_>>>()?))
    }

    /// Makes more banks.
    pub fn extend(&self, allocator: &mut Allocator, count: u32) -> Result<()> {
        let first = allocator.banks();
        if count == 0 {
            return Ok(());
        }
        if count > self.source.most() - first {
            return Err(self.source.full());
        }
        self.source.make(first, count)?;
        allocator.extend(count);
        Ok(())
    }

    /// Stores what is taken.
    pub fn store(&self, allocator: &mut Allocator) -> Result<()> {
        allocator.store(|number, bitmap| self.source.put_bitmap(number, bitmap))
    }
}

struct Pinned {
    state: PathBuf,
    kind: Kind,
    /// The map of maps in which the program looks a bank up.
    outer: MapHandle,
    bitmaps: Map<u32, abi::bitmap>,
}

fn open(path: &Path) -> Result<MapHandle> {
    MapHandle::from_pinned_path(path).at("cannot open", path)
}

impl Source for Pinned {
    fn most(&self) -> u32 {
        self.kind.most()
    }

    /// They are made in the order of their numbers.
    fn count(&self) -> Result<u32> {
        let (mut there, mut missing) = (0, 1);
        while missing <= self.most() && exists(&self.pin(missing - 1))? {
            there = missing;
            missing *= 2;
        }
        // There are `there` at least, and fewer than `missing`.
        while missing - there > 1 {
            let middle = there + (missing - there) / 2;
            if middle <= self.most() && exists(&self.pin(middle - 1))? {
                there = middle;
            } else {
                missing = middle;
            }
        }
        Ok(there)
    }

    fn open(&self, number: u32) -> Result<Option<sys::Words>> {
        let path = self.pin(number);
        if !exists(&path)? {
            return Ok(None);
        }
        let map = open(&path)?;
        sys::Words::map(&map).at("cannot map", &path).map(Some)
    }

    /// The pins come last: a run that is killed before leaves banks without users, which the next one
    /// replaces.
    fn make(&self, first: u32, count: u32) -> Result<()> {
        let made = (0..count).map(|_| self.kind.create());
        let made = made.collect::<Result<Vec<_>>>();
        let made = made.map_err(|error| no_room(self.kind, error))?;
        put_all(&self.outer, first, &made)?;
        let mut pairs = (first..).zip(&made);
        pairs.try_for_each(|(number, bank)| self.keep(number, bank))
    }

    fn bitmap(&self, number: u32) -> Result<Bitmap> {
        let stored = self.bitmaps.get(&number)?;
        Ok(stored.as_ref().map(Bitmap::from).unwrap_or_default())
    }

    fn put_bitmap(&self, number: u32, bitmap: &Bitmap) -> Result<()> {
        self.bitmaps.put(&number, &bitmap.stored())
    }

    fn full(&self) -> anyhow::Error {
        Failure::new(Full {
            name: self.kind.outer(),
            limit: self.most() * super::bitmap::BITS,
        })
    }
}

impl Pinned {
    fn pin(&self, number: u32) -> PathBuf {
        self.state.join(self.kind.pin(number))
    }

    /// Pins a bank. It is shared with the group before it has its name, so that no member meets a bank that
    /// is closed.
    fn keep(&self, number: u32, bank: &MapHandle) -> Result<()> {
        let path = self.pin(number);
        let staged = self.state.join(format!("{}new", self.kind.prefix()));
        remove_file(&staged)?;
        sys::pin(bank.as_fd(), &staged)?;
        if let Some(gid) = group_of(&self.state) {
            share_pin(&staged, gid)?;
        }
        fs::rename(&staged, &path).at("cannot make", &path)
    }
}

fn no_room(kind: Kind, error: anyhow::Error) -> anyhow::Error {
    let what = match kind {
        Kind::Counters => "counters",
        Kind::Lines => "lines of rules",
    };
    match exit_code(&error) {
        Exit::Permission => failure(
            Exit::Permission,
            format!(
                "the {what} are full, and only root can make room for more: let root add this one"
            ),
        ),
        _ => error.context(format!("cannot make room for more {what}")),
    }
}

/// Banks in this process's own memory.
#[cfg(test)]
pub mod plain {
    use std::cell::RefCell;

    use super::*;

    #[derive(Default)]
    pub struct Plain {
        bitmaps: RefCell<Vec<Bitmap>>,
    }

    impl Source for Plain {
        fn most(&self) -> u32 {
            abi::LINE_BANKS
        }

        fn count(&self) -> Result<u32> {
            Ok(self.bitmaps.borrow().len() as u32)
        }

        fn open(&self, number: u32) -> Result<Option<sys::Words>> {
            if number >= self.count()? {
                return Ok(None);
            }
            let words = (abi::BANK_LINES * abi::LINE_BYTES / 8) as usize;
            Ok(Some(sys::Words::anonymous(words)?))
        }

        fn make(&self, _: u32, count: u32) -> Result<()> {
            let more = (0..count).map(|_| Bitmap::default());
            self.bitmaps.borrow_mut().extend(more);
            Ok(())
        }

        fn bitmap(&self, number: u32) -> Result<Bitmap> {
            Ok(self.bitmaps.borrow()[number as usize].clone())
        }

        fn put_bitmap(&self, number: u32, bitmap: &Bitmap) -> Result<()> {
            self.bitmaps.borrow_mut()[number as usize] = bitmap.clone();
            Ok(())
        }

        fn full(&self) -> anyhow::Error {
            anyhow::anyhow!("full")
        }
    }
}
