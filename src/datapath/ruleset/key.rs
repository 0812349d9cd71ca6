//! What rules are found by: a match as the program compares it, and its hash.

use anyhow::Result;

use super::heap::Heap;
use super::words::{of_word, word_of};
use crate::datapath::abi;

/// A match. Addresses are in network byte order; those of IPv4 are in the first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// A struct probe.
    pub probe: u64,
    /// A struct place.
    pub place: u64,
    pub src: [u32; 4],
    pub dst: [u32; 4],
}

/// Whether the rules with a probe are of IPv6.
pub fn is_ipv6(probe: u64) -> bool {
    let probe: abi::probe = of_word(probe);
    u32::from(probe.flags) & abi::PROBE_IPV6 != 0
}

/// See mix in bpf/rule_lookup.h.
fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ hash >> 32
}

fn pair(first: u32, second: u32) -> u64 {
    word_of(&[first, second])
}

impl Key {
    pub fn is_ipv6(&self) -> bool {
        is_ipv6(self.probe)
    }

    /// See rule_hash in bpf/rule_lookup.h.
    pub fn hash(&self, hash_key: u64) -> u64 {
        let Key { src, dst, .. } = self;
        let (hash, family) = if self.is_ipv6() {
            let words = [
                pair(src[0], src[1]),
                pair(src[2], src[3]),
                pair(dst[0], dst[1]),
                pair(dst[2], dst[3]),
            ];
            (words.into_iter().fold(hash_key, mix), abi::FAMILY_IPV6)
        } else {
            (mix(hash_key, pair(src[0], dst[0])), abi::FAMILY_IPV4)
        };
        mix(mix(mix(hash, self.probe), self.place), family.into())
    }
}

/// A rule as it lies in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRule {
    pub key: Key,
    /// The line of its action or set.
    pub target: u32,
    pub counter: u32,
}

impl StoredRule {
    /// The rule with this number.
    pub fn read(heap: &Heap, number: u32) -> Result<Self> {
        let stored: abi::rule4 = heap.read_half(number)?;
        if is_ipv6(word_of(&stored.probe)) {
            return Self::read6(heap, number);
        }
        let key = Key {
            probe: word_of(&stored.probe),
            place: word_of(&stored.place),
            src: [stored.src, 0, 0, 0],
            dst: [stored.dst, 0, 0, 0],
        };
        let (target, counter) = (stored.target, stored.counter);
        Ok(StoredRule {
            key,
            target,
            counter,
        })
    }

    fn read6(heap: &Heap, number: u32) -> Result<Self> {
        let stored: abi::rule6 = heap.read(number / 2)?;
        let key = Key {
            probe: word_of(&stored.probe),
            place: word_of(&stored.place),
            src: stored.src,
            dst: stored.dst,
        };
        let (target, counter) = (stored.target, stored.counter);
        Ok(StoredRule {
            key,
            target,
            counter,
        })
    }

    /// Writes it where nobody reads yet.
    pub fn write(&self, heap: &Heap, number: u32) -> Result<()> {
        let StoredRule {
            key,
            target,
            counter,
        } = *self;
        let (probe, place) = (of_word(key.probe), of_word(key.place));
        if key.is_ipv6() {
            let stored = abi::rule6 {
                probe,
                place,
                src: key.src,
                dst: key.dst,
                target,
                counter,
                unused: [0; 2],
            };
            return heap.write(number / 2, &stored);
        }
        let stored = abi::rule4 {
            probe,
            place,
            src: key.src[0],
            dst: key.dst[0],
            target,
            counter,
        };
        heap.write_half(number, &stored)
    }
}
