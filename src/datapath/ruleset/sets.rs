//! The sets of backends, with their Maglev tables. Once a rule names a set, nothing changes in it but that
//! the backends of a device that is gone lose it.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use anyhow::Result;

use super::codec::{set_size, stored_backend};
use super::room::Usage;
use crate::datapath::maps::Map;
use crate::datapath::{Pins, abi};
use crate::model::Rule;
use crate::model::maglev::{self, Member};

pub struct Sets {
    members: Map<abi::set_key, abi::backend>,
    maglev: Map<abi::set_key, abi::maglev_chunk>,
}

/// The Maglev tables of a batch, so that rules with the same backends share one computation.
#[derive(Default)]
pub struct Tables(RefCell<HashMap<Vec<Member>, Rc<Vec<abi::maglev_chunk>>>>);

impl Tables {
    /// The table of a rule's backends, as the map has it.
    fn of(&self, rule: &Rule) -> Rc<Vec<abi::maglev_chunk>> {
        let members = rule.members();
        let mut known = self.0.borrow_mut();
        if let Some(table) = known.get(&members) {
            return table.clone();
        }
        let table = maglev::table(&members, abi::MAGLEV_SLOTS as usize);
        let table = Rc::new(chunks(&table));
        known.insert(members, table.clone());
        table
    }
}

impl Sets {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Sets {
            members: Map::shared(pins, "members")?,
            maglev: Map::shared(pins, "maglev")?,
        })
    }

    /// The backends of a set that are there.
    pub fn read(&self, set: u32) -> Result<Vec<abi::backend>> {
        let mut members = Vec::new();
        for index in 0..set_size(set) {
            members.extend(self.members.get(&abi::set_key { set, index })?);
        }
        Ok(members)
    }

    /// Writes the backends and the Maglev table under a number that no set has.
    pub fn write(&self, rule: &Rule, tables: &Tables) -> Result<u32> {
        let set = self.unused(rule.backends.len())?;
        let keys = |count: usize| (0..count as u32).map(|index| abi::set_key { set, index });
        let stored = |backend| stored_backend(rule, backend);
        let members: Vec<_> = rule.backends.iter().map(stored).collect();
        let places: Vec<_> = keys(members.len()).collect();
        self.members.put_many(&places, &members)?;
        if members.len() > 1 {
            let chunks = tables.of(rule);
            let places: Vec<_> = keys(chunks.len()).collect();
            self.maglev.put_many(&places, &chunks)?;
        }
        Ok(set)
    }

    fn unused(&self, backends: usize) -> Result<u32> {
        loop {
            let set = fastrand::u32(..) << 8 | backends as u32;
            if self.members.get(&abi::set_key { set, index: 0 })?.is_none() {
                return Ok(set);
            }
        }
    }

    /// Deletes a set. The caller has waited until no packet is on its way through it.
    pub fn delete(&self, set: u32) -> Result<()> {
        if set_size(set) > 1 {
            for index in 0..abi::MAGLEV_CHUNKS {
                self.maglev.delete(&abi::set_key { set, index })?;
            }
        }
        // The first backend marks the number as in use, so it goes last.
        for index in (0..set_size(set)).rev() {
            self.members.delete(&abi::set_key { set, index })?;
        }
        Ok(())
    }

    /// Deletes all sets but these.
    pub fn keep_only(&self, sets: &HashSet<u32>) -> Result<()> {
        self.members.retain(|key| sets.contains(&key.set))?;
        self.maglev.retain(|key| sets.contains(&key.set))
    }

    /// Counts what is in the sets, of rules or left by killed runs.
    pub fn add_to(&self, usage: &mut Usage) -> Result<()> {
        for (key, _) in self.members.entries()? {
            usage.members += 1;
            usage.balanced += usize::from(key.index == 0 && set_size(key.set) > 1);
        }
        Ok(())
    }

    /// All members with their sets.
    pub fn members(&self) -> Result<Vec<(u32, abi::backend)>> {
        let entries = self.members.entries()?.into_iter();
        Ok(entries.map(|(key, member)| (key.set, member)).collect())
    }

    /// Takes devices from their backends.
    pub fn disconnect(&self, devices: &BTreeSet<u32>) -> Result<()> {
        for (key, mut member) in self.members.entries()? {
            if devices.contains(&member.ifindex) {
                member.ifindex = 0;
                self.members.put(&key, &member)?;
            }
        }
        Ok(())
    }
}

/// The slots go to the chunks by turns.
fn chunks(table: &[u8]) -> Vec<abi::maglev_chunk> {
    let slot = [0; abi::MAGLEV_CHUNK as usize];
    let count = abi::MAGLEV_CHUNKS as usize;
    let mut chunks = vec![abi::maglev_chunk { slot }; count];
    for (place, backend) in table.iter().enumerate() {
        chunks[place % count].slot[place / count] = *backend;
    }
    chunks
}
