//! The number of the rule set: another one after each change.

use std::cell::Cell;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::datapath::Pins;
use crate::datapath::maps::Map;

/// The most that a change takes, of a batch of rules on a busy machine.
const LONGEST_CHANGE: Duration = Duration::from_millis(500);

pub struct Generation {
    map: Map<u32, u64>,
    /// The odd generation that a killed run has left, once this run has waited for it in vain.
    abandoned: Cell<Option<u64>>,
}

/// A change while it lasts: the flow cache is not used meanwhile, and forgets everything when this is
/// dropped.
#[must_use = "the change ends when this is dropped"]
pub struct OpenChange<'a> {
    map: &'a Map<u32, u64>,
    generation: u64,
}

impl Generation {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Generation {
            map: Map::shared(pins, "generation")?,
            abandoned: Cell::new(None),
        })
    }

    pub fn current(&self) -> Result<u64> {
        Ok(self.map.get(&0)?.unwrap_or_default())
    }

    /// Begins a change. The caller holds the lock.
    pub fn change(&self) -> Result<OpenChange<'_>> {
        // It is odd already where a run was killed during its change.
        let generation = self.current()? | 1;
        self.map.put(&0, &generation)?;
        Ok(OpenChange {
            map: &self.map,
            generation,
        })
    }

    /// Whether anything has changed since then, or was being changed.
    pub fn has_changed_since(&self, generation: u64) -> Result<bool> {
        Ok(self.is_changing(generation) || self.current()? != generation)
    }

    /// Odd during a change, and after one whose run was killed until the next one.
    fn is_changing(&self, generation: u64) -> bool {
        generation & 1 == 1 && self.abandoned.get() != Some(generation)
    }

    /// Waits until nobody changes anything. A change that takes too long belongs to a run that was
    /// killed or stopped, and is not waited for a second time.
    pub fn wait_for_changes(&self) -> Result<()> {
        let mut current = self.current()?;
        let mut since = Instant::now();
        while self.is_changing(current) {
            sleep(Duration::from_millis(1));
            let now = self.current()?;
            if now != current {
                (current, since) = (now, Instant::now());
            } else if since.elapsed() > LONGEST_CHANGE {
                self.abandoned.set(Some(current));
            }
        }
        Ok(())
    }
}

impl Drop for OpenChange<'_> {
    fn drop(&mut self) {
        let generation = self.generation.wrapping_add(1);
        // If it fails, the flow cache is not used until the next change: slow, but right.
        let _ = self.map.put(&0, &generation);
    }
}
