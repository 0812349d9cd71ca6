//! How large the table of connections is to be.

use anyhow::{Result, ensure};

use super::{Banks, read, write};
use crate::datapath::{Lock, Pins, RuleStore, abi, has_state, sys};
use crate::error::{Exit, failure};
use crate::model::{Remedy, TableSize, Verb};

/// The size of the table, or the one that it will have.
pub fn size(pins: &Pins) -> Result<TableSize> {
    Ok(of(&read(pins)?))
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
    /// None where the table has this size. Refused where connections would be lost: while there is a rule that
    /// remembers them.
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
            let now = of(&table);
            let why = format!("the table of connections has room for {now}, and rules use it");
            let remedy = Remedy::from(Verb::Plain("rule del"))
                + " those that remember connections first, or "
                + Verb::Plain("detach --all");
            let is_used = RuleStore::open(pins)?.remembers()?;
            ensure!(!is_used, failure(Exit::Conflict, (why, remedy)));
        }
        let banks = is_made.then(|| Banks::make(size)).transpose()?;
        Ok(Some(Resize { pins, size, banks }))
    }

    /// No rule that the caller has seen remembers connections, so that no packet looks for one.
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
