//! How large the table of connections is to be.

use anyhow::{Result, ensure};

use super::{Banks, FlowTable, read, write};
use crate::datapath::{Lock, Pins, RuleStore, abi, has_state, sys};
use crate::error::{Exit, failure};
use crate::model::{ConnectionsInUse, Remedy, TableSize, Verb};

/// The size of the table, or the one that it will have.
pub fn size(pins: &Pins) -> Result<TableSize> {
    Ok(of(&read(pins)?))
}

/// How full the table is; None where there is none, and nobody has said how large it is to be.
pub fn in_use(pins: &Pins) -> Result<Option<ConnectionsInUse>> {
    if let Some(table) = FlowTable::open(pins)? {
        return Ok(Some(table.in_use()));
    }
    let said = TableSize::of_banks(read(pins)?.banks);
    Ok(said.map(|size| ConnectionsInUse {
        now: 0,
        most: size.connections().into(),
        bytes: 0,
    }))
}

pub(super) fn of(table: &abi::flow_table) -> TableSize {
    let made = table.buckets / abi::FLOW_BANK_BUCKETS;
    let size = TableSize::of_banks(made).or(TableSize::of_banks(table.banks));
    size.unwrap_or_default()
}

/// Another size, which is possible, and for which there is memory.
pub struct Resize<'a> {
    pins: &'a Pins,
    size: TableSize,
    /// Where there is a table, the banks of the new one.
    banks: Option<Banks>,
}

impl<'a> Resize<'a> {
    /// None where the table has this size. Refused where connections would be lost.
    pub fn prepare(pins: &'a Pins, _: &Lock, size: TableSize) -> Result<Option<Self>> {
        // The first `attach` makes the maps later.
        let table = match has_state(pins)? {
            true => read(pins)?,
            false => abi::flow_table::default(),
        };
        let is_made = table.buckets > 0;
        if of(&table) == size {
            return Ok(None);
        }
        if is_made {
            require_unused(pins, of(&table))?;
        }
        let banks = is_made.then(|| Banks::make(size)).transpose()?;
        Ok(Some(Resize { pins, size, banks }))
    }

    /// Where there is a table, no rule remembers connections, so that no packet looks for one.
    pub fn apply(self) -> Result<()> {
        match self.banks {
            None => write(self.pins, self.size, 0),
            Some(banks) => {
                sys::wait_for_readers();
                banks.put(self.pins, self.size)
            }
        }
    }
}

/// Connections are lost with their table, and packets that look for one would meet another table half-way.
fn require_unused(pins: &Pins, size: TableSize) -> Result<()> {
    let is_used = |why: &str, remedy: Remedy| {
        let why = format!("the table of connections has room for {size}, and {why}");
        failure(Exit::Conflict, (why, remedy))
    };
    if RuleStore::open(pins)?.remembers()? {
        let delete = Remedy::from("delete those rules first, with ") + Verb::Plain("rule del");
        return Err(is_used("rules use it", delete));
    }
    let now = FlowTable::open(pins)?.map_or(0, |table| table.in_use().now);
    let end = Remedy::from(Verb::Plain("flow del --all")) + " ends them";
    let why = format!("{now} of its connections would be lost");
    ensure!(now == 0, is_used(&why, end));
    Ok(())
}
