//! The hash table of all rules, and the guards, which tell of most lookups that they would be in vain.
//!
//! Both slots' rule sets share a table: each entry has a bit for each slot. A change sets and clears the
//! bits of the staged slot only, until it needs a larger table, which has the staged slot's rules alone.

use std::sync::atomic::Ordering::{Relaxed, Release};

use anyhow::{Result, ensure};

use super::heap::{Heap, Line};
use super::key::{Key, StoredRule};
use super::words::{of_word, word_of};
use crate::datapath::abi;

/// The fewest buckets. Their number is a power of two.
const LEAST_BUCKETS: u32 = 16;
/// The most: the hash has 24 bits for them.
const MOST_BUCKETS: u32 = 1 << 24;
/// Rules to a bucket, of its seven entries, before the table grows.
const RULES: u64 = 4;
/// The same of entries, with those that only the live slot has.
const ENTRIES: u64 = 5;
/// The same of rules whose bits are set in the guards, of which many are deleted.
const GUARDED: u64 = 8;
/// A table that is more than this many times as large as it needs to be is replaced by a smaller one.
const SHRINK: u64 = 16;
/// Words of the guards for each bucket; at most 2^20 in all.
const GUARDS: u32 = 2;
const LINE_WORDS: u32 = abi::LINE_BYTES / 8;

/// A table with its guards, as a rule set names them.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    heap: &'a Heap,
    hash_key: u64,
    buckets: u32,
    mask: u32,
    guards: u32,
    guard_mask: u32,
}

/// Where an entry is: the line of its bucket, and the word in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    line: u32,
    word: usize,
    pub number: u32,
}

fn slot_bit(slot: u32) -> u32 {
    1 << slot
}

/// How many buckets so many rules need.
pub fn buckets_for(rules: u32) -> u32 {
    let buckets = u64::from(rules).div_ceil(RULES);
    (buckets as u32).next_power_of_two().max(LEAST_BUCKETS)
}

/// Whether the table of a set that has `rules` once `more` are inserted has to be replaced by one of
/// another size.
pub fn is_outgrown(set: &abi::ruleset, rules: u32, more: u32) -> bool {
    let buckets = u64::from(set.bucket_mask) + 1;
    let least = u64::from(buckets_for(rules));
    let more = u64::from(more);
    set.buckets == 0
        || u64::from(rules) > RULES * buckets
        || u64::from(set.rules + set.announced) + more > ENTRIES * buckets
        || u64::from(set.guarded) + more > GUARDED * buckets
        || buckets > SHRINK * least
}

impl<'a> Table<'a> {
    pub fn of(heap: &'a Heap, set: &abi::ruleset) -> Self {
        Table {
            heap,
            hash_key: set.hash_key,
            buckets: set.buckets,
            mask: set.bucket_mask,
            guards: set.guards,
            guard_mask: set.guard_mask,
        }
    }

    /// Makes an empty table with its guards, and has a rule set name them.
    pub fn make(heap: &'a Heap, set: &mut abi::ruleset, buckets: u32) -> Result<Self> {
        ensure!(buckets <= MOST_BUCKETS, "the rules' hash table is full");
        let words = GUARDS * buckets;
        set.buckets = heap.take_zeroed(buckets)?;
        set.bucket_mask = buckets - 1;
        set.guards = heap.take_zeroed(words / LINE_WORDS)?;
        set.guard_mask = words - 1;
        set.guarded = 0;
        Ok(Table::of(heap, set))
    }

    /// How many lines a table takes, with its guards.
    pub fn lines(buckets: u32) -> u32 {
        buckets + GUARDS * buckets / LINE_WORDS
    }

    /// The lines of the table, and those of the guards: the first, and how many.
    pub fn runs(&self) -> [(u32, u32); 2] {
        if self.buckets == 0 {
            return [(0, 0); 2];
        }
        let guards = (self.guard_mask + 1) / LINE_WORDS;
        [(self.buckets, self.mask + 1), (self.guards, guards)]
    }

    /// The bucket so many places after that of a hash.
    fn bucket(&self, hash: u64, step: u32) -> u32 {
        self.buckets + (hash.wrapping_add(step.into()) as u32 & self.mask)
    }

    /// The rule that a slot has for a key.
    pub fn find(&self, slot: u32, key: &Key) -> Result<Option<Entry>> {
        if self.buckets == 0 {
            return Ok(None);
        }
        let hash = key.hash(self.hash_key);
        for step in 0..abi::MAX_CHAIN {
            let number = self.bucket(hash, step);
            let Some(line) = self.heap.line(number)? else {
                return Ok(None);
            };
            if let Some(entry) = self.find_in(line, number, slot, hash, key)? {
                return Ok(Some(entry));
            }
            if chained(line) == 0 {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn find_in(
        &self,
        line: &Line,
        number: u32,
        slot: u32,
        hash: u64,
        key: &Key,
    ) -> Result<Option<Entry>> {
        for (word, place) in line.iter().enumerate().skip(1) {
            let entry: abi::entry = of_word(place.load(Relaxed));
            let differs = (entry.tag ^ (hash >> 32) as u32) & !abi::TAG_SLOTS;
            if differs != 0 || entry.tag & slot_bit(slot) == 0 {
                continue;
            }
            if StoredRule::read(self.heap, entry.rule)?.key == *key {
                let (line, number) = (number, entry.rule);
                return Ok(Some(Entry { line, word, number }));
            }
        }
        Ok(None)
    }

    /// Inserts a rule for a slot that packets do not see. False: there is no room where it belongs.
    pub fn insert(&self, slot: u32, key: &Key, number: u32) -> Result<bool> {
        let hash = key.hash(self.hash_key);
        for step in 0..abi::MAX_CHAIN {
            let line = self.heap.line_to_write(self.bucket(hash, step))?;
            let free = |word: &&std::sync::atomic::AtomicU64| word.load(Relaxed) == 0;
            let Some(place) = line.iter().skip(1).find(free) else {
                continue;
            };
            // First what a lookup needs to come here: too much of it is harmless, if this run is killed.
            self.guard(hash)?;
            for step in 0..step {
                change_chained(self.heap.line_to_write(self.bucket(hash, step))?, 1);
            }
            let tag = (hash >> 32) as u32 & !abi::TAG_SLOTS | slot_bit(slot);
            place.store(word_of(&abi::entry { tag, rule: number }), Release);
            return Ok(true);
        }
        Ok(false)
    }

    fn guard(&self, hash: u64) -> Result<()> {
        let number = (hash >> 24) as u32 & self.guard_mask;
        let line = self.guards + number / LINE_WORDS;
        let word = &self.heap.line_to_write(line)?[(number % LINE_WORDS) as usize];
        let bits = [44, 50, 56].map(|shift| 1u64 << (hash >> shift & 63));
        let bits = bits.iter().fold(0, |all, bit| all | bit);
        word.store(word.load(Relaxed) | bits, Relaxed);
        Ok(())
    }

    /// Takes a rule from a slot that packets do not see.
    pub fn clear(&self, slot: u32, entry: &Entry) -> Result<()> {
        let place = &self.heap.line_to_write(entry.line)?[entry.word];
        let mut stored: abi::entry = of_word(place.load(Relaxed));
        stored.tag &= !slot_bit(slot);
        place.store(word_of(&stored), Relaxed);
        Ok(())
    }

    /// Makes a slot's rules those of the live one. What neither has is freed.
    pub fn copy(&self, live: u32, slot: u32) -> Result<()> {
        for number in self.all() {
            let Some(line) = self.heap.line(number)? else {
                continue;
            };
            for place in &line[1..] {
                let word = place.load(Relaxed);
                let mut entry: abi::entry = of_word(word);
                let is_live = entry.tag & slot_bit(live) != 0;
                if word == 0 || is_live == (entry.tag & slot_bit(slot) != 0) && is_live {
                    continue;
                }
                if is_live {
                    entry.tag |= slot_bit(slot);
                    place.store(word_of(&entry), Relaxed);
                } else {
                    place.store(0, Relaxed);
                    self.unchain(number, entry.rule)?;
                }
            }
        }
        Ok(())
    }

    /// A rule that stood in a bucket does not any more.
    fn unchain(&self, number: u32, rule: u32) -> Result<()> {
        let hash = StoredRule::read(self.heap, rule)?.key.hash(self.hash_key);
        let mut steps = 0..abi::MAX_CHAIN;
        let Some(step) = steps.find(|&step| self.bucket(hash, step) == number) else {
            return Ok(());
        };
        for step in 0..step {
            change_chained(self.heap.line_to_write(self.bucket(hash, step))?, -1);
        }
        Ok(())
    }

    /// The lines of all buckets.
    fn all(&self) -> std::ops::Range<u32> {
        match self.buckets {
            0 => 0..0,
            first => first..first.saturating_add(self.mask).saturating_add(1),
        }
    }

    /// The numbers of a slot's rules, in order: most of those lie side by side.
    pub fn numbers(&self, slot: u32) -> Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for number in self.all() {
            let Some(line) = self.heap.line(number)? else {
                break;
            };
            for place in &line[1..] {
                let entry: abi::entry = of_word(place.load(Relaxed));
                if entry.tag & slot_bit(slot) != 0 {
                    numbers.push(entry.rule);
                }
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

fn chained(line: &Line) -> u32 {
    let [chained, _]: [u32; 2] = of_word(line[0].load(Relaxed));
    chained
}

fn change_chained(line: &Line, by: i32) {
    let chained = chained(line).saturating_add_signed(by);
    line[0].store(word_of(&[chained, 0]), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::super::heap::plain::heap;
    use super::*;

    fn key(number: u32) -> Key {
        Key {
            probe: 0,
            place: 0,
            src: [number, 0, 0, 0],
            dst: [0; 4],
        }
    }

    /// A rule in a line of its own, at the table's second slot.
    fn put(heap: &Heap, table: Table, of: u32) -> bool {
        let number = heap.take().unwrap() * 2;
        let rule = StoredRule {
            key: key(of),
            target: of,
            counter: 0,
        };
        rule.write(heap, number).unwrap();
        table.insert(1, &rule.key, number).unwrap()
    }

    fn target(heap: &Heap, table: Table, slot: u32, of: u32) -> Option<u32> {
        let entry = table.find(slot, &key(of)).unwrap()?;
        Some(StoredRule::read(heap, entry.number).unwrap().target)
    }

    #[test]
    fn rules_are_found_by_the_slots_that_have_them() {
        let heap = heap();
        let mut set = abi::ruleset::default();
        assert_eq!(Table::of(&heap, &set).find(0, &key(1)).unwrap(), None);
        let table = Table::make(&heap, &mut set, buckets_for(60)).unwrap();
        assert!((0..60).all(|of| put(&heap, table, of)));
        for of in 0..60 {
            assert_eq!(target(&heap, table, 1, of), Some(of));
            assert_eq!(target(&heap, table, 0, of), None);
        }
        assert_eq!(table.numbers(1).unwrap().len(), 60);
        table.copy(1, 0).unwrap();
        for of in (0..60).step_by(2) {
            let entry = table.find(0, &key(of)).unwrap().unwrap();
            table.clear(0, &entry).unwrap();
        }
        let found = |slot| {
            let all = (0..61).filter(|&of| target(&heap, table, slot, of).is_some());
            all.count()
        };
        assert_eq!((found(0), found(1)), (30, 60));
    }

    #[test]
    fn what_no_slot_has_makes_room_and_ends_chains() {
        let heap = heap();
        let mut set = abi::ruleset::default();
        let table = Table::make(&heap, &mut set, LEAST_BUCKETS).unwrap();
        let all = 0..10_000;
        let fitted = all.take_while(|&of| put(&heap, table, of)).count();
        assert!(fitted > 90, "{fitted}");
        let chains = || -> u32 {
            let lines = table.all().map(|line| heap.line(line).unwrap().unwrap());
            lines.map(chained).sum()
        };
        assert!(chains() > 0);
        table.copy(1, 0).unwrap();
        assert_eq!(table.numbers(0).unwrap().len(), fitted);
        let first = table.find(1, &key(0)).unwrap().unwrap();
        table.clear(1, &first).unwrap();
        table.clear(0, &first).unwrap();
        table.copy(1, 0).unwrap();
        assert_eq!(target(&heap, table, 0, 0), None);
        assert!(put(&heap, table, 0), "its entry is free");
        table.copy(0, 1).unwrap();
        for number in 0..fitted as u32 {
            if let Some(entry) = table.find(0, &key(number)).unwrap() {
                table.clear(0, &entry).unwrap();
            }
        }
        table.copy(0, 1).unwrap();
        assert_eq!((table.numbers(1).unwrap().len(), chains()), (0, 0));
    }

    #[test]
    fn a_table_is_replaced_where_it_is_too_small_or_much_too_large() {
        let set = |rules, guarded| abi::ruleset {
            buckets: 1,
            bucket_mask: 1023,
            rules,
            guarded,
            ..Default::default()
        };
        assert!(is_outgrown(&abi::ruleset::default(), 0, 0));
        assert!(!is_outgrown(&set(4095, 4095), 4096, 1));
        assert!(is_outgrown(&set(4096, 4096), 4097, 1));
        assert!(is_outgrown(&set(4096, 4096), 4096, 1025));
        assert!(is_outgrown(&set(4000, 8192), 4000, 1));
        assert!(!is_outgrown(&set(250, 250), 250, 0));
        assert!(is_outgrown(&set(250, 250), 64, 0));
        assert_eq!(buckets_for(abi::MAX_RULES), abi::MAX_RULES / 4);
    }
}
