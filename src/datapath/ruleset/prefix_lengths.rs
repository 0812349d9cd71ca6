//! Which prefix lengths the rules of a service have: the program looks a packet up once for each.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::Result;

use super::codec::{ServiceBytes, bytes_of_service, length_bit, length_of, service_bytes, union};
use crate::datapath::maps::{Map, says_full};
use crate::datapath::{Pins, abi};

type Rules = Map<abi::rule_key, abi::rule>;

pub struct PrefixLengths(Map<abi::service_key, abi::prefix_lengths>);

impl PrefixLengths {
    pub fn open(pins: &Pins) -> Result<Self> {
        let map = Map::open(&pins.map("prefix_lengths"), "prefix_lengths")?;
        Ok(PrefixLengths(map))
    }

    /// How many services there are, with those that killed runs have left.
    pub fn count(&self) -> Result<usize> {
        self.0.count()
    }

    pub fn has(&self, service: &ServiceBytes) -> Result<bool> {
        let service = abi::from_bytes(service)?;
        Ok(self.0.get(&service)?.is_some())
    }

    /// Adds the prefix lengths of rules that are about to be stored. Killed runs leave services without
    /// rules, which are deleted when their room is needed.
    pub fn add(&self, keys: &[abi::rule_key], rules: &Rules) -> Result<()> {
        let mut wanted: BTreeMap<ServiceBytes, abi::prefix_lengths> = BTreeMap::new();
        for key in keys {
            let lengths = wanted.entry(service_bytes(key)).or_default();
            *lengths = union(*lengths, length_of(key));
        }
        match self.put(&wanted) {
            Err(error) if says_full(&error) => {
                self.delete_unused(rules, &wanted)?;
                self.put(&wanted)
            }
            result => result,
        }
    }

    fn put(&self, wanted: &BTreeMap<ServiceBytes, abi::prefix_lengths>) -> Result<()> {
        for (service, lengths) in wanted {
            let service: abi::service_key = abi::from_bytes(service)?;
            let before = self.0.get(&service)?.unwrap_or_default();
            let after = union(before, *lengths);
            if after.lengths != before.lengths {
                self.0.put(&service, &after)?;
            }
        }
        Ok(())
    }

    fn delete_unused(
        &self,
        rules: &Rules,
        wanted: &BTreeMap<ServiceBytes, abi::prefix_lengths>,
    ) -> Result<()> {
        let rules = rules.entries()?;
        let used: HashSet<ServiceBytes> = rules.iter().map(|(key, _)| service_bytes(key)).collect();
        for service in self.0.keys()? {
            let bytes = bytes_of_service(&service);
            if !used.contains(&bytes) && !wanted.contains_key(&bytes) {
                self.0.delete(&service)?;
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
        let mut unseen: BTreeSet<(ServiceBytes, u8)> = deleted
            .map(|key| (service_bytes(&key), key.prefixlen))
            .collect();
        if unseen.is_empty() {
            return Ok(());
        }
        for batch in rules.batches()? {
            if unseen.is_empty() {
                break;
            }
            for (key, _) in batch? {
                unseen.remove(&(service_bytes(&key), key.prefixlen));
            }
        }
        for (service, prefixlen) in unseen {
            self.remove_one(&abi::from_bytes(&service)?, prefixlen)?;
        }
        Ok(())
    }

    fn remove_one(&self, service: &abi::service_key, prefixlen: u8) -> Result<()> {
        let Some(mut lengths) = self.0.get(service)? else {
            return Ok(());
        };
        let (word, bit) = length_bit(service.family, prefixlen);
        lengths.lengths[word] &= !bit;
        if lengths.lengths == [0; 3] {
            self.0.delete(service)
        } else {
            self.0.put(service, &lengths)
        }
    }
}
