//! The locators of backends, by the backends' counters.

use std::collections::HashMap;

use anyhow::Result;

use crate::datapath::allocator::Marks;
use crate::datapath::maps::Map;
use crate::datapath::{Pins, abi};
use crate::model::Locator;

/// The bytes of the longest locator that can be stored.
pub const MAX_TEXT: usize = abi::LOCATOR_LEN as usize - 1;

pub struct Locators(Map<u32, abi::locator>);

impl Locators {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Locators(Map::shared(pins, "locators")?))
    }

    pub fn get(&self, counter: u32) -> Result<Option<Locator>> {
        Ok(self.0.get(&counter)?.as_ref().and_then(read))
    }

    pub fn all(&self) -> Result<HashMap<u32, Locator>> {
        let entries = self.0.entries()?;
        let known = |(counter, stored)| Some((counter, read(&stored)?));
        Ok(entries.into_iter().filter_map(known).collect())
    }

    /// How many there are, with those that nobody needs any more.
    pub fn count(&self) -> Result<usize> {
        self.0.count()
    }

    /// Stores a locator, or deletes it.
    pub fn put(&self, counter: u32, locator: Option<&Locator>) -> Result<()> {
        match locator {
            Some(locator) => self.0.put(&counter, &stored(locator)),
            None => self.0.delete(&counter),
        }
    }

    /// Deletes all locators but those of counters that are marked.
    pub fn keep_only(&self, counters: &Marks) -> Result<()> {
        self.0.retain(|&counter| counters.has(counter))
    }
}

fn stored(locator: &Locator) -> abi::locator {
    let mut stored = abi::locator::default();
    abi::put_text(&mut stored.text, &locator.to_string());
    stored
}

/// None where this version cannot read the text.
fn read(stored: &abi::locator) -> Option<Locator> {
    String::from_utf8(abi::text_of(&stored.text))
        .ok()?
        .parse()
        .ok()
}
