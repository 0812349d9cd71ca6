//! A copy of the table, for a program that is tried out.

use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, Result};
use libbpf_rs::{Map, MapCore, MapFlags, MapHandle};

use super::open::FlowTable;
use super::{Banks, read};
use crate::datapath::bpffs::At;
use crate::datapath::maps;
use crate::datapath::{Pins, abi, banks, sys};
use crate::model::TableSize;

/// The maps of a program that has no table yet.
pub struct Empty<'a> {
    pub tags: Map<'a>,
    pub entries: Map<'a>,
    pub table: Map<'a>,
    pub stats: Map<'a>,
}

impl Empty<'_> {
    /// Fills them with the connections that there are now; None where no rule has remembered any yet. Packets
    /// go on meanwhile: of a connection that they change, the copy may have what it was before or is after.
    pub fn fill(&self, pins: &Pins) -> Result<Option<FlowTable>> {
        let table = read(pins)?;
        let first = abi::bytes_of(&0u32);
        self.table
            .update(first, abi::bytes_of(&table), MapFlags::ANY)?;
        if table.buckets == 0 {
            return Ok(None);
        }
        let count = table.buckets.div_ceil(abi::FLOW_BANK_BUCKETS);
        let copies = Banks::make(TableSize::of_banks(count).context("no size of a table")?)?;
        copy_all(&inner(pins, "flow_tags", count)?, &copies.tags)?;
        copy_all(&inner(pins, "flow_entries", count)?, &copies.entries)?;
        for (outer, banks) in [(&self.tags, &copies.tags), (&self.entries, &copies.entries)] {
            let mut numbered = (0..).zip(banks);
            numbered.try_for_each(|(number, bank)| banks::put(outer, number, bank))?;
        }
        let memory = copies.entries.iter().map(sys::Words::map);
        let stats = MapHandle::try_from(&self.stats)?;
        let stats = maps::Map::of(stats, "flow_stats");
        let memory = memory.collect::<std::io::Result<_>>();
        FlowTable::of(memory.context("cannot map a copy")?, &table, stats).map(Some)
    }
}

/// The banks that the program uses. Only root may open them by their numbers.
fn inner(pins: &Pins, name: &'static str, count: u32) -> Result<Vec<MapHandle>> {
    let path = pins.map(name);
    let outer = MapHandle::from_pinned_path(&path).at("cannot open", &path)?;
    let open = |number: u32| {
        let id = outer.lookup(&number.to_ne_bytes(), MapFlags::ANY)?;
        let id = id.with_context(|| format!("{} has no bank {number}", path.display()))?;
        Ok(MapHandle::from_map_id(abi::from_bytes(&id)?)?)
    };
    (0..count).map(open).collect()
}

fn copy_all(from: &[MapHandle], to: &[MapHandle]) -> Result<()> {
    from.iter().zip(to).try_for_each(|(from, to)| {
        let (from, to) = (sys::Words::map(from)?, sys::Words::map(to)?);
        for (from, to) in from.iter().zip(to.iter()) {
            to.store(from.load(Relaxed), Relaxed);
        }
        Ok(())
    })
}
