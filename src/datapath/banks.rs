//! The backends' counters: banks of them, each a per-CPU array. Another bank is made when all are
//! full, so that memory is taken for as many as there are.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use libbpf_rs::{ErrorKind, MapHandle, MapType, libbpf_sys};

use super::bpffs::{exists, remove_file};
use super::group::{group_of, share_pin};
use super::maps::{Counters, Full, Map};
use super::{Pins, abi, sys};
use crate::error::{Exit, failure};
use crate::model::Counter;

pub struct Banks {
    state: PathBuf,
    /// What the program looks a bank up in.
    outer: Map<u32, u32>,
    banks: Map<u32, abi::bank>,
    /// Those that there are.
    open: RefCell<Vec<Counters>>,
}

impl Banks {
    pub fn open(pins: &Pins) -> Result<Self> {
        let banks = Banks {
            state: pins.state(),
            outer: Map::open(&pins.map("counters"), "counters")?,
            banks: Map::open(&pins.map("banks"), "banks")?,
            open: Vec::new().into(),
        };
        for bank in 0..abi::COUNTER_BANKS {
            if !exists(&banks.pin(bank))? {
                break;
            }
            let counters = Counters::open(&banks.pin(bank), "counters")?;
            banks.open.borrow_mut().push(counters);
        }
        Ok(banks)
    }

    fn pin(&self, bank: u32) -> PathBuf {
        self.state.join(format!("counters-{bank}"))
    }

    pub fn total(&self, counter: u32) -> Result<Counter> {
        let open = self.open.borrow();
        match open.get((counter / abi::BANK_COUNTERS) as usize) {
            Some(bank) => Ok(bank
                .total(counter % abi::BANK_COUNTERS)?
                .unwrap_or_default()),
            None => Ok(Counter::default()),
        }
    }

    /// As many counters at zero that no backend has, a bank at a time.
    pub fn create(&self, count: usize) -> Result<Vec<u32>> {
        let mut counters = Vec::with_capacity(count);
        for number in 0..abi::COUNTER_BANKS {
            if counters.len() == count {
                break;
            }
            let mut bank = self.bank(number)?;
            if bank.bitmap.iter().all(|&byte| byte == 0xff) {
                continue;
            }
            let fresh = self.make(number)?;
            for index in 0..abi::BANK_COUNTERS {
                let (byte, bit) = ((index / 8) as usize, 1 << (index % 8));
                if counters.len() == count || bank.bitmap[byte] & bit != 0 {
                    continue;
                }
                if !fresh {
                    self.open.borrow()[number as usize].reset(index)?;
                }
                bank.bitmap[byte] |= bit;
                counters.push(number * abi::BANK_COUNTERS + index);
            }
            self.banks.put(&number, &bank)?;
        }
        if counters.len() < count {
            return Err(FULL.into());
        }
        Ok(counters)
    }

    pub fn release(&self, counter: u32) -> Result<()> {
        let number = counter / abi::BANK_COUNTERS;
        let index = counter % abi::BANK_COUNTERS;
        if number >= abi::COUNTER_BANKS {
            return Ok(());
        }
        let mut bank = self.bank(number)?;
        let (byte, bit) = ((index / 8) as usize, 1 << (index % 8));
        if bank.bitmap[byte] & bit != 0 {
            bank.bitmap[byte] &= !bit;
            self.banks.put(&number, &bank)?;
        }
        Ok(())
    }

    /// Releases all counters but these.
    pub fn keep_only(&self, counters: &HashSet<u32>) -> Result<()> {
        for number in 0..self.open.borrow().len() as u32 {
            let mut bank = EMPTY;
            let first = number * abi::BANK_COUNTERS;
            for index in (0..abi::BANK_COUNTERS).filter(|index| counters.contains(&(first + index)))
            {
                bank.bitmap[(index / 8) as usize] |= 1 << (index % 8);
            }
            self.banks.put(&number, &bank)?;
        }
        Ok(())
    }

    fn bank(&self, number: u32) -> Result<abi::bank> {
        Ok(self.banks.get(&number)?.unwrap_or(EMPTY))
    }

    /// Whether it was made just now. The pin, shared with the group before it has its name, comes
    /// last: a run that is killed before leaves a bank without users, which the next one replaces.
    fn make(&self, number: u32) -> Result<bool> {
        if (number as usize) < self.open.borrow().len() {
            return Ok(false);
        }
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            ..Default::default()
        };
        let map = MapHandle::create(
            MapType::PercpuArray,
            Some("counters"),
            size_of::<u32>() as u32,
            size_of::<abi::counter>() as u32,
            abi::BANK_COUNTERS,
            &options,
        )
        .map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => failure(
                Exit::Permission,
                "the counters are full, and only root can make room for more: let root add this one",
            ),
            _ => anyhow::Error::from(error).context("cannot make room for more counters"),
        })?;
        let fd = map.as_fd().as_raw_fd() as u32;
        self.outer.put(&number, &fd)?;
        let (path, staged) = (self.pin(number), self.state.join("counters-new"));
        remove_file(&staged)?;
        sys::pin(map.as_fd(), &staged)
            .with_context(|| format!("cannot pin {}", staged.display()))?;
        if let Some(gid) = group_of(&self.state) {
            share_pin(&staged, gid)?;
        }
        fs::rename(&staged, &path).with_context(|| format!("cannot make {}", path.display()))?;
        self.open
            .borrow_mut()
            .push(Counters::open(&path, "counters")?);
        Ok(true)
    }
}

const FULL: Full = Full {
    name: "counters",
    limit: abi::COUNTER_BANKS * abi::BANK_COUNTERS,
};

const EMPTY: abi::bank = abi::bank {
    bitmap: [0; abi::BANK_BITMAP as usize],
};
