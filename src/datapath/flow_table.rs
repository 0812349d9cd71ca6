//! The table of connections: see bpf/abi/connection.h. It is made when the first rule is published that
//! remembers connections, and stays as long as the maps.

mod copy;
mod entry;
mod open;
mod ports;
mod size;

use std::fs;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};

use super::bpffs::{At, mkdir, remove_tree};
use super::maps::{self, Map};
use super::permissions::{group_of, share_pins_of};
use super::{Pins, abi, banks, refusal, sys};
use crate::model::TableSize;

pub(super) use copy::Empty;
pub use entry::connection;
pub use open::FlowTable;
pub use ports::{set_source_ports, source_ports};
pub use size::{Resize, in_use, size};

const _: () = {
    let tags = abi::FLOW_BANK_BUCKETS as usize * size_of::<abi::flow_tags>();
    let entries = abi::FLOW_BANK_ENTRIES as usize * size_of::<abi::flow_entry>();
    assert!(TableSize::BANK_BYTES as usize == tags + entries);
    assert!(TableSize::MOST.banks() == abi::FLOW_BANKS);
};

/// Makes the table where there is none.
pub fn require(pins: &Pins) -> Result<()> {
    let table = read(pins)?;
    if table.buckets != 0 {
        return Ok(());
    }
    let size = size::of(&table);
    Banks::make(size)?.put(pins, size)
}

fn map(pins: &Pins) -> Result<Map<u32, abi::flow_table>> {
    Map::shared(pins, "flow_table")
}

fn read(pins: &Pins) -> Result<abi::flow_table> {
    Ok(map(pins)?.get(&0)?.unwrap_or_default())
}

/// Writes the size of the table, and with how many buckets the program uses it; 0: there is none.
fn write(pins: &Pins, size: TableSize, buckets: u32) -> Result<()> {
    let table = abi::flow_table {
        bucket_mask: buckets.saturating_sub(1),
        buckets,
        banks: size.banks(),
        ..ports::kept(read(pins)?)
    };
    map(pins)?.put(&0, &table)
}

/// The banks of a table, which nobody sees yet.
struct Banks {
    tags: Vec<MapHandle>,
    entries: Vec<MapHandle>,
}

impl Banks {
    fn make(size: TableSize) -> Result<Self> {
        Ok(Banks {
            tags: make::<abi::flow_tags>("flow_tags", abi::FLOW_BANK_BUCKETS, size)?,
            entries: make::<abi::flow_entry>("flow_entries", abi::FLOW_BANK_ENTRIES, size)?,
        })
    }

    /// Puts them where the program looks them up, which uses them once the last write is done: a run that is
    /// killed before leaves banks that the next one replaces.
    fn put(self, pins: &Pins, size: TableSize) -> Result<()> {
        write(pins, size, 0)?;
        put_banks(pins, "flow_tags", &self.tags)?;
        put_banks(pins, "flow_entries", &self.entries)?;
        pin_banks(pins, &self.entries)?;
        write(pins, size, size.banks() * abi::FLOW_BANK_BUCKETS)
    }
}

fn make<T: abi::Plain>(
    name: &'static str,
    entries: u32,
    size: TableSize,
) -> Result<Vec<MapHandle>> {
    let flags = libbpf_sys::BPF_F_MMAPABLE;
    let make = |_| maps::create::<u32, T>(name, MapType::Array, entries, flags);
    let made = (0..size.banks())
        .map(make)
        .collect::<libbpf_rs::Result<Vec<_>>>();
    let made = made.map_err(|error| refusal::of_map(name, error));
    made.with_context(|| format!("cannot make the table of connections ({size})"))
}

/// The map of maps keeps them alive. Those of a larger table that was there go: the program looks up none of
/// their numbers, and a write of many is faster than a deletion of many.
fn put_banks(pins: &Pins, name: &'static str, banks: &[MapHandle]) -> Result<()> {
    let path = pins.map(name);
    let outer = MapHandle::from_pinned_path(&path).at("cannot open", &path)?;
    banks::put_all(&outer, 0, banks)?;
    let is_there = |number: &u32| {
        let found = outer.lookup(&number.to_ne_bytes(), MapFlags::ANY);
        matches!(found, Ok(Some(_)))
    };
    let first = banks.len() as u32;
    let left = (first..abi::FLOW_BANKS).take_while(is_there).count();
    match banks {
        [one, ..] if left > 0 => banks::put_all(&outer, first, &vec![one; left]),
        _ => Ok(()),
    }
}

/// Pins the banks of entries, for those who list and end connections: only root may open a map by the number that
/// a map of maps has of it. All pins come at once, shared with the group already.
fn pin_banks(pins: &Pins, banks: &[MapHandle]) -> Result<()> {
    let (staged, path) = (pins.staged_flows(), pins.flows());
    remove_tree(&staged)?;
    mkdir(&staged, 0o700).at("cannot make", &staged)?;
    for (number, bank) in banks.iter().enumerate() {
        sys::pin(bank.as_fd(), &staged.join(number.to_string()))?;
    }
    if let Some(gid) = group_of(&pins.state()) {
        share_pins_of(&staged, gid)?;
    }
    remove_tree(&path)?;
    fs::rename(&staged, &path).at("cannot make", &path)
}
