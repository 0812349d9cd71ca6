//! The journal of fixes: changes are written to it before they are made.

use std::collections::HashMap;

use anyhow::Result;

use crate::datapath::{JournalMap, Pins};
use crate::model::{Adjacency, Change, Match};

/// The journal, with the changes of this run that are not made yet.
pub struct Journal {
    map: JournalMap,
    next: u32,
    /// The changes of backends, by rule and by the adjacency that the backend has now.
    backends: HashMap<Key, Entry>,
    devices: Vec<Change>,
    /// What was written and is not confirmed.
    written: Vec<(u32, Change)>,
    /// The entries that those replace.
    outdated: Vec<(Key, u32)>,
}

type Key = (Match, Adjacency);

#[derive(Clone, Copy)]
struct Entry {
    number: u32,
    before: Adjacency,
}

impl Journal {
    /// Reads the journal. The caller holds the lock.
    pub fn open(pins: &Pins) -> Result<Self> {
        let map = JournalMap::open_or_create(pins)?;
        let numbers = map.numbers()?;
        let mut journal = Journal {
            // The last one comes first.
            next: numbers.first().map_or(0, |last| last + 1),
            backends: HashMap::new(),
            devices: Vec::new(),
            written: Vec::new(),
            outdated: Vec::new(),
            map,
        };
        for number in numbers {
            // Reverting reports the entries that can't be read.
            if let Ok(change) = journal.map.get(number) {
                journal.remember(number, change);
            }
        }
        Ok(journal)
    }

    /// Writes changes down that are about to be made; all of them or none.
    pub fn write(&mut self, changes: &[Change]) -> Result<()> {
        let written = changes.iter().try_for_each(|change| self.write_one(change));
        written.or_else(|error| self.cancel().and(Err(error)))
    }

    /// Forgets changes that were not made after all.
    pub fn cancel(&mut self) -> Result<()> {
        self.outdated.clear();
        let mut written = self.written.drain(..);
        written.try_for_each(|(number, _)| self.map.forget(number))
    }

    /// Keeps the changes that were made, in place of the entries that they go on from.
    pub fn confirm(&mut self) -> Result<()> {
        for (number, change) in std::mem::take(&mut self.written) {
            self.remember(number, change);
        }
        for (key, number) in std::mem::take(&mut self.outdated) {
            self.backends.remove(&key);
            self.map.forget(number)?;
        }
        Ok(())
    }

    /// A backend that was changed before gets an entry from its first adjacency to the new one, and none
    /// where it has its first one again: there is one entry for each thing that is changed.
    fn write_one(&mut self, change: &Change) -> Result<()> {
        let mut entry = change.clone();
        if let Change::Backend {
            matches,
            before,
            after,
        } = &mut entry
        {
            let key = (*matches, *before);
            if let Some(earlier) = self.backends.get(&key) {
                self.outdated.push((key, earlier.number));
                *before = earlier.before;
                if before == after {
                    return Ok(());
                }
            }
        } else if self.devices.contains(change) {
            return Ok(());
        }
        let number = self.next;
        self.next += 1;
        self.written.push((number, entry.clone()));
        self.map.note(number, &entry)
    }

    fn remember(&mut self, number: u32, change: Change) {
        match change {
            Change::Backend {
                matches,
                before,
                after,
            } => {
                let entry = Entry { number, before };
                self.backends.insert((matches, after), entry);
            }
            device => self.devices.push(device),
        }
    }
}
