//! Changes that take long to prepare: a server that is silent takes seconds, and other runs must not wait.

use anyhow::Result;

use super::RuleStore;
use crate::datapath::{Lock, Pins, read};

/// A change that is prepared without the lock.
pub struct Draft<'a> {
    pins: &'a Pins,
    store: Option<RuleStore>,
}

impl<'a> Draft<'a> {
    /// Reads what the change depends on; None where nothing is attached.
    pub fn read<T>(
        pins: &'a Pins,
        look: impl Fn(&RuleStore) -> Result<T>,
    ) -> Result<Option<(Self, T)>> {
        let found = read(pins, || {
            let store = RuleStore::open(pins)?;
            Ok((look(&store)?, store))
        })?;
        let draft = |store| Draft { pins, store };
        Ok(found.map(|(found, store)| (draft(Some(store)), found)))
    }

    /// Takes the lock to make the change. The rules that it changes have to be read again.
    pub fn lock(&mut self) -> Result<(Lock, &RuleStore)> {
        let lock = Lock::take(self.pins)?;
        let store = RuleStore::reopen(self.store.take(), self.pins, &lock)?;
        Ok((lock, self.store.insert(store)))
    }
}
