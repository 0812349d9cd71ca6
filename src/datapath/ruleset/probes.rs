//! How many rules have each probe. Few probes have many rules, so all of them are in memory during a change.

use std::cmp::Reverse;
use std::collections::HashMap;

use anyhow::Result;

use super::words::of_word;
use crate::datapath::maps::Map;
use crate::datapath::{Pins, abi};

/// The map of the probes.
pub struct ProbeMap(Map<u64, abi::probe_count>);

/// The rules with a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub rules: u32,
    /// The exclusive or of their numbers: of only one rule, its number.
    pub numbers: u32,
}

impl Count {
    /// The number of the only rule.
    pub fn only(self) -> Option<u32> {
        (self.rules == 1).then_some(self.numbers)
    }
}

#[derive(Clone, Copy, Default)]
struct Both {
    live: Count,
    staged: Count,
    /// As the map has it: by slot.
    stored: Option<[Count; 2]>,
}

/// All probes, of the live rule set and of the staged one.
pub struct Probes {
    all: HashMap<u64, Both>,
    /// Those that a change has touched.
    touched: Vec<u64>,
    slot: usize,
}

fn counts(stored: &abi::probe_count) -> [Count; 2] {
    let count = |slot: usize| Count {
        rules: stored.rules[slot],
        numbers: stored.numbers[slot],
    };
    [count(0), count(1)]
}

impl ProbeMap {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(ProbeMap(Map::shared(pins, "probes")?))
    }

    /// The probes of the live rule set, which the staged one has, too.
    pub fn begin(&self, slot: u32) -> Result<Probes> {
        Ok(Probes::new(self.0.entries()?, slot))
    }

    /// Stores the counts of the staged rule set.
    pub fn store(&self, probes: &Probes) -> Result<()> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (&probe, both) in &probes.all {
            let mut counts = [both.live; 2];
            counts[probes.slot] = both.staged;
            if counts == [Count::default(); 2] {
                if both.stored.is_some() {
                    self.0.delete(&probe)?;
                }
            } else if both.stored != Some(counts) {
                keys.push(probe);
                values.push(abi::probe_count {
                    rules: counts.map(|count| count.rules),
                    numbers: counts.map(|count| count.numbers),
                });
            }
        }
        self.0.put_many(&keys, &values)
    }
}

impl Probes {
    pub fn new(entries: Vec<(u64, abi::probe_count)>, slot: u32) -> Self {
        let slot = slot as usize;
        let both = |stored: &abi::probe_count| {
            let stored = counts(stored);
            let live = stored[1 - slot];
            Both {
                live,
                staged: live,
                stored: Some(stored),
            }
        };
        let all = entries.iter().map(|(probe, stored)| (*probe, both(stored)));
        Probes {
            all: all.collect(),
            touched: Vec::new(),
            slot,
        }
    }

    /// The rules that the staged rule set has with a probe.
    pub fn get(&self, probe: u64) -> Count {
        let both = self.all.get(&probe);
        both.map(|both| both.staged).unwrap_or_default()
    }

    pub fn add(&mut self, probe: u64, number: u32) {
        let count = self.touch(probe);
        count.rules += 1;
        count.numbers ^= number;
    }

    pub fn remove(&mut self, probe: u64, number: u32) {
        let count = self.touch(probe);
        count.rules = count.rules.saturating_sub(1);
        count.numbers ^= number;
        if count.rules == 0 {
            count.numbers = 0;
        }
    }

    fn touch(&mut self, probe: u64) -> &mut Count {
        // Most changes touch the same one again and again.
        if self.touched.last() != Some(&probe) {
            self.touched.push(probe);
        }
        &mut self.all.entry(probe).or_default().staged
    }

    /// How many the staged rule set has.
    pub fn staged(&self) -> usize {
        let staged = self.all.values().filter(|both| both.staged.rules > 0);
        staged.count()
    }

    /// The probes whose services have to be compiled again for the staged rule set: they got their first
    /// rule, lost their last one, or their only rule changed.
    pub fn changed(&mut self) -> Vec<u64> {
        self.touched.sort_unstable();
        self.touched.dedup();
        let state = |count: Count| (count.rules.min(2), count.only());
        let is_changed = |probe: &&u64| {
            let both = self.all[*probe];
            state(both.live) != state(both.staged)
        };
        self.touched.iter().filter(is_changed).copied().collect()
    }

    #[cfg(test)]
    pub fn stored(&self) -> Vec<(u64, abi::probe_count)> {
        let counts = |both: &Both| {
            let mut counts = [both.live; 2];
            counts[self.slot] = both.staged;
            abi::probe_count {
                rules: counts.map(|count| count.rules),
                numbers: counts.map(|count| count.numbers),
            }
        };
        let all = self.all.iter();
        all.map(|(&probe, both)| (probe, counts(both))).collect()
    }
}

/// How specific a probe is: of two that a packet meets, the lesser one comes first.
pub fn order(probe: u64) -> impl Ord {
    let abi::probe {
        first,
        last,
        proto,
        dst_len,
        src_len,
        flags,
    } = of_word(probe);
    let has = |flag| u32::from(flags) & flag != 0;
    (
        Reverse((dst_len, src_len)),
        (last.saturating_sub(first), first),
        u32::from(proto) == abi::PROTO_ANY,
        !has(abi::PROBE_INNER_VLAN),
        !has(abi::PROBE_IN),
    )
}
