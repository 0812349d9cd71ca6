//! Changes, written down before they are made.

use anyhow::Result;

use crate::datapath::{Mends, Pins};
use crate::model::Change;

pub struct Notes {
    mends: Mends,
    next: u32,
}

impl Notes {
    /// The caller holds the lock.
    pub fn open(pins: &Pins) -> Result<Self> {
        let mends = Mends::open_or_create(pins)?;
        let next = mends.next()?;
        Ok(Notes { mends, next })
    }

    /// Makes changes together; those that were not made are no longer written down.
    pub fn made<C: IntoIterator<Item = Change> + Clone>(
        &mut self,
        changes: C,
        make: impl FnOnce() -> Result<()>,
    ) -> Result<C> {
        let first = self.next;
        let noted = changes.clone().into_iter().try_for_each(|change| {
            self.next += 1;
            self.mends.note(self.next - 1, &change)
        });
        let result = noted.and_then(|()| if self.next == first { Ok(()) } else { make() });
        if result.is_err() {
            for number in first..self.next {
                self.mends.forget(number)?;
            }
        }
        result.map(|()| changes)
    }
}
