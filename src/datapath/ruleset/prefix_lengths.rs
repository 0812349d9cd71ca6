//! Which prefix lengths the rules of a service have: the program looks a packet up once for each.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::Result;

use super::codec::{ServiceBytes, length_bit, service_of};
use crate::datapath::maps::{Map, says_full};
use crate::datapath::{Pins, abi};

type Rules = Map<abi::rule_key, abi::rule>;

pub struct PrefixLengths(Map<ServiceBytes, abi::prefix_lengths>);

impl PrefixLengths {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(PrefixLengths(Map::shared(pins, "prefix_lengths")?))
    }

    /// Adds the services that are there to new ones, unless all of those are there.
    pub fn add_to(&self, services: &mut HashSet<ServiceBytes>) -> Result<()> {
        for service in services.iter() {
            if self.0.get(service)?.is_none() {
                services.extend(self.0.keys()?);
                break;
            }
        }
        Ok(())
    }

    /// Adds the prefix lengths of rules that are about to be stored. Killed runs leave services without
    /// rules, which are deleted when their room is needed.
    pub fn add(&self, keys: &[abi::rule_key], rules: &Rules) -> Result<()> {
        let mut wanted: BTreeMap<ServiceBytes, abi::prefix_lengths> = BTreeMap::new();
        for key in keys {
            let (word, bit) = length_bit(key);
            wanted.entry(service_of(key)).or_default().lengths[word] |= bit;
        }
        match self.put(&wanted) {
            Err(error) if says_full(&error) => {
                let rules = rules.entries()?;
                let used: HashSet<_> = rules.iter().map(|(key, _)| service_of(key)).collect();
                let is_used = |s: &ServiceBytes| used.contains(s) || wanted.contains_key(s);
                self.0.retain(is_used)?;
                self.put(&wanted)
            }
            result => result,
        }
    }

    fn put(&self, wanted: &BTreeMap<ServiceBytes, abi::prefix_lengths>) -> Result<()> {
        for (service, wanted) in wanted {
            let before = self.0.get(service)?.unwrap_or_default().lengths;
            let mut lengths = before;
            let words = lengths.iter_mut().zip(wanted.lengths);
            words.for_each(|(word, more)| *word |= more);
            if lengths != before {
                self.0.put(service, &abi::prefix_lengths { lengths })?;
            }
        }
        Ok(())
    }

    /// Removes the prefix lengths that only deleted rules had. Reads the rules that are left until it
    /// has seen each length, which is soon where many have it.
    pub fn remove(
        &self,
        deleted: impl Iterator<Item = abi::rule_key>,
        rules: &Rules,
    ) -> Result<()> {
        let place = |key| (service_of(&key), length_bit(&key));
        let mut unseen: BTreeSet<_> = deleted.map(place).collect();
        if unseen.is_empty() {
            return Ok(());
        }
        for batch in rules.batches()? {
            if unseen.is_empty() {
                break;
            }
            for (key, _) in batch? {
                unseen.remove(&place(key));
            }
        }
        for (service, (word, bit)) in unseen {
            let Some(mut lengths) = self.0.get(&service)? else {
                continue;
            };
            lengths.lengths[word] &= !bit;
            if lengths.lengths == [0; 3] {
                self.0.delete(&service)?;
            } else {
                self.0.put(&service, &lengths)?;
            }
        }
        Ok(())
    }
}
