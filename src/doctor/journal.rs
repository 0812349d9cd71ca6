//! Changes, written down before they are made.

use std::collections::HashMap;

use anyhow::Result;

use crate::datapath::{JournalMap, Pins};
use crate::model::{Adjacency, Change, Match};

pub struct Journal {
    mends: JournalMap,
    next: u32,
    /// By the rules they are of, and the ways that they lead to.
    ways: HashMap<Key, Noted>,
    devices: Vec<Change>,
}

type Key = (Match, Adjacency);

#[derive(Clone, Copy)]
struct Noted {
    number: u32,
    before: Adjacency,
}

impl Journal {
    /// The caller holds the lock.
    pub fn open(pins: &Pins) -> Result<Self> {
        let mends = JournalMap::open_or_create(pins)?;
        let numbers = mends.numbers()?;
        let mut notes = Journal {
            // The last one comes first.
            next: numbers.first().map_or(0, |last| last + 1),
            ways: HashMap::new(),
            devices: Vec::new(),
            mends,
        };
        for number in numbers {
            // One that can't be read is `--undo`'s to tell of.
            if let Ok(change) = notes.mends.get(number) {
                notes.remember(number, change);
            }
        }
        Ok(notes)
    }

    /// Makes changes together, and hands them back. One that was made before is taken further in its
    /// own note, so that all of them have as many as there are things changed.
    pub fn made(
        &mut self,
        changes: Vec<Change>,
        make: impl FnOnce() -> Result<()>,
    ) -> Result<Vec<Change>> {
        if changes.is_empty() {
            return Ok(changes);
        }
        let (mut written, mut outdated) = (Vec::new(), Vec::new());
        let noted = changes.iter().try_for_each(|change| {
            let (note, earlier) = self.further(change);
            outdated.extend(earlier);
            let Some(note) = note else {
                return Ok(());
            };
            let number = self.next;
            self.next += 1;
            written.push((number, note.clone()));
            self.mends.note(number, &note)
        });
        if let Err(error) = noted {
            self.forget(written.iter())?;
            return Err(error);
        }
        if let Err(error) = make() {
            // Which backends were changed, `--undo` sees for itself.
            let is_device = |(_, note): &&(u32, Change)| !matches!(note, Change::Backend { .. });
            self.forget(written.iter().filter(is_device))?;
            return Err(error);
        }
        for (number, note) in written {
            self.remember(number, note);
        }
        for (key, number) in outdated {
            self.ways.remove(&key);
            self.mends.forget(number)?;
        }
        Ok(changes)
    }

    /// What is to be written down, and the note that it replaces.
    fn further(&self, change: &Change) -> (Option<Change>, Option<(Key, u32)>) {
        let Change::Backend {
            matches,
            before,
            after,
        } = change
        else {
            let is_new = !self.devices.contains(change);
            return (is_new.then(|| change.clone()), None);
        };
        let key = (*matches, *before);
        let Some(earlier) = self.ways.get(&key) else {
            return (Some(change.clone()), None);
        };
        let note = Change::Backend {
            matches: *matches,
            before: earlier.before,
            after: *after,
        };
        let is_back = earlier.before == *after;
        (Some(note).filter(|_| !is_back), Some((key, earlier.number)))
    }

    fn remember(&mut self, number: u32, change: Change) {
        match change {
            Change::Backend {
                matches,
                before,
                after,
            } => {
                self.ways.insert((matches, after), Noted { number, before });
            }
            device => self.devices.push(device),
        }
    }

    fn forget<'a>(&self, notes: impl Iterator<Item = &'a (u32, Change)>) -> Result<()> {
        for (number, _) in notes {
            self.mends.forget(*number)?;
        }
        Ok(())
    }
}
