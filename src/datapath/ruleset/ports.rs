//! The line of each port's service, for both slots.

use std::ops::RangeInclusive;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Result;
use libbpf_rs::MapHandle;

use super::key::is_ipv6;
use super::words::{of_word, word_of};
use crate::datapath::bpffs::At;
use crate::datapath::{Pins, abi, sys};

/// Linux uapi: linux/in.h.
pub const IPPROTO_ICMP: u32 = 1;
pub const IPPROTO_TCP: u32 = 6;
pub const IPPROTO_UDP: u32 = 17;
pub const IPPROTO_ICMPV6: u32 = 58;
pub const IPPROTO_SCTP: u32 = 132;

/// The map, in this process's memory: each word has two lines.
pub struct Ports(sys::Words);

const SLOT_WORDS: usize = abi::SLOT_PORTS as usize / 2;

impl Ports {
    pub fn open(pins: &Pins) -> Result<Self> {
        let path = pins.map("ports");
        let map = MapHandle::from_pinned_path(&path).at("cannot open", &path)?;
        Ok(Ports(sys::Words::map(&map).at("cannot map", &path)?))
    }

    fn slot(&self, slot: u32) -> &[AtomicU64] {
        let start = slot as usize * SLOT_WORDS;
        &self.0[start..start + SLOT_WORDS]
    }

    /// The line of a service; its number is class * PORTS + port.
    pub fn get(&self, slot: u32, number: u32) -> u32 {
        let word = &self.slot(slot)[number as usize / 2];
        of_word::<[u32; 2]>(word.load(Relaxed))[number as usize % 2]
    }

    /// Sets the line of a service in a slot that packets do not see.
    pub fn put(&self, slot: u32, number: u32, line: u32) {
        let word = &self.slot(slot)[number as usize / 2];
        let mut lines: [u32; 2] = of_word(word.load(Relaxed));
        lines[number as usize % 2] = line;
        word.store(word_of(&lines), Relaxed);
    }

    /// Makes a slot's services those of the live one.
    pub fn copy(&self, live: u32, slot: u32) {
        for (to, from) in self.slot(slot).iter().zip(self.slot(live)) {
            let from = from.load(Relaxed);
            if to.load(Relaxed) != from {
                to.store(from, Relaxed);
            }
        }
    }

    /// The lines of a slot's services, without repetition of neighbours.
    pub fn lines(&self, slot: u32) -> Vec<u32> {
        let words = self.slot(slot).iter().map(|word| word.load(Relaxed));
        let words = words.filter(|&word| word != 0);
        let mut lines: Vec<u32> = words.flat_map(of_word::<[u32; 2]>).collect();
        lines.dedup();
        lines
    }

    #[cfg(test)]
    pub fn plain() -> Self {
        Ports(sys::Words::anonymous(2 * SLOT_WORDS).unwrap())
    }
}

/// The services that rules with a probe belong to, as ranges of their numbers.
pub fn services_of(probe: u64) -> Vec<RangeInclusive<u32>> {
    let abi::probe {
        first, last, proto, ..
    } = of_word(probe);
    let (family, others) = if is_ipv6(probe) {
        (abi::PORTS_IPV6, abi::PORTS_OTHER6)
    } else {
        (0, abi::PORTS_OTHER4)
    };
    let ports = |class: u32| {
        let start = (family + class) * abi::PORTS;
        start + u32::from(first)..=start + u32::from(last)
    };
    let others = others * abi::PORTS;
    match u32::from(proto) {
        IPPROTO_UDP => vec![ports(abi::PORTS_UDP)],
        IPPROTO_TCP => vec![ports(abi::PORTS_TCP)],
        IPPROTO_SCTP => vec![ports(abi::PORTS_SCTP)],
        abi::PROTO_ANY => {
            let classes = [abi::PORTS_UDP, abi::PORTS_TCP, abi::PORTS_SCTP];
            let mut all: Vec<_> = classes.map(ports).into();
            if (first, last) == (0, u16::MAX) {
                all.push(others..=others + u32::from(u8::MAX));
            }
            all
        }
        abi::PROTO_ANNOUNCED => {
            let number = others + abi::PORT_ANNOUNCED;
            vec![number..=number]
        }
        number => vec![others + number..=others + number],
    }
}
