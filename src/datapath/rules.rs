//! The rules in the kernel.
//!
//! A rule has its only backend in itself, or names a set of them, which never changes once it is
//! named. A change writes a new set, then the rule: that one map update is the moment at which all
//! packets, and all other runs, see the new state.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use anyhow::Result;
use ipnet::Ipv4Net;

use super::maps::{Counters, Full, Map};
use super::{Pins, abi, sys};
use crate::model::{Backend, Counter, Mac, Match, Proto, Rule};

/// Linux uapi: linux/in.h.
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;

pub struct RuleStore {
    rules: Map<abi::rule_key, abi::rule>,
    backends: Map<abi::set_key, abi::backend>,
    maglev: Map<abi::set_key, abi::maglev_chunk>,
    counters: Counters,
    egress: Map<u32, u32>,
}

impl RuleStore {
    /// The caller holds the lock on the pins, exclusively to write.
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(RuleStore {
            rules: Map::open(&pins.map("rules"), "rules")?,
            backends: Map::open(&pins.map("backends"), "backends")?,
            maglev: Map::open(&pins.map("maglev"), "maglev")?,
            counters: Map::open(&pins.map("counters"), "counters")?,
            egress: Map::open(&pins.map("egress"), "egress")?,
        })
    }

    /// How many matches have a rule.
    pub fn count(&self) -> Result<usize> {
        Ok(self.rules.keys()?.len())
    }

    /// All rules, in the order of protocol, port and source.
    pub fn list(&self) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for key in self.rules.keys()? {
            let matches = match_of(&key)?;
            rules.extend(self.get(&matches)?);
        }
        rules.sort_by_key(|rule| rule.matches);
        Ok(rules)
    }

    pub fn get(&self, matches: &Match) -> Result<Option<Rule>> {
        let Some(value) = self.stored(matches)? else {
            return Ok(None);
        };
        let backends = match value.backends {
            0 | 1 => vec![backend_of(&value.only)],
            _ => self.members(&value)?,
        };
        Ok(Some(Rule {
            matches: *matches,
            backends,
        }))
    }

    fn members(&self, rule: &abi::rule) -> Result<Vec<Backend>> {
        let mut members = Vec::new();
        for index in 0..u32::from(rule.backends).min(abi::MAX_RULE_BACKENDS) {
            let key = abi::set_key {
                set: rule.set,
                index,
            };
            // One that is missing was never written by us; the rule can still be mended or deleted.
            members.extend(self.backends.get(&key)?.as_ref().map(backend_of));
        }
        Ok(members)
    }

    /// The rule for exactly this match; a bare lookup would also find one with a shorter prefix.
    fn stored(&self, matches: &Match) -> Result<Option<abi::rule>> {
        let key = key_of(matches);
        let found = self.rules.get(&key)?;
        Ok(found.filter(|rule| u32::from(rule.prefixlen) == key.prefixlen))
    }

    pub fn counter(&self, backend: &Backend) -> Result<Counter> {
        Ok(self.counters.total(backend.counter)?.unwrap_or_default())
    }

    /// A counter at zero, for a new backend.
    pub fn new_counter(&self) -> Result<u32> {
        self.collecting_garbage(&[], || self.counters.create())
    }

    /// Whether packets can be redirected to a device: the kernel forgets one that is unregistered,
    /// even if another comes with the same index.
    pub fn has_egress(&self, ifindex: u32) -> Result<bool> {
        Ok(self.egress.get(&ifindex)?.is_some())
    }

    /// Makes a device one that packets can be redirected to.
    pub fn open_egress(&self, ifindex: u32) -> Result<()> {
        self.egress.put(&ifindex, &ifindex)
    }

    /// Stores a rule in place of the one that has its match.
    pub fn put(&self, rule: &Rule) -> Result<()> {
        let old = self.stored(&rule.matches)?;
        let key = key_of(&rule.matches);
        let mut new = abi::rule {
            backends: rule.backends.len() as u16,
            prefixlen: key.prefixlen as u16,
            ..Default::default()
        };
        match rule.backends.as_slice() {
            [only] => new.only = stored_backend(only),
            _ => new.set = self.collecting_garbage(&rule.backends, || self.write_set(rule))?,
        }
        if let Err(error) = self.rules.put(&key, &new) {
            let _ = self.delete_set(&new);
            return Err(error);
        }
        match old {
            Some(old) if old.backends > 1 => {
                sys::wait_for_readers();
                self.delete_set(&old)
            }
            _ => Ok(()),
        }
    }

    pub fn delete(&self, rule: &Rule) -> Result<()> {
        self.delete_all(std::slice::from_ref(rule))
    }

    /// Deletes rules with their backends' counters.
    pub fn delete_all(&self, rules: &[Rule]) -> Result<()> {
        let mut sets = Vec::new();
        for rule in rules {
            sets.extend(self.stored(&rule.matches)?);
            self.rules.delete(&key_of(&rule.matches))?;
        }
        sys::wait_for_readers();
        sets.iter().try_for_each(|set| self.delete_set(set))?;
        rules
            .iter()
            .flat_map(|rule| &rule.backends)
            .try_for_each(|b| self.delete_counter(b))
    }

    /// To be called once no packet is on its way to the backend.
    pub fn delete_counter(&self, backend: &Backend) -> Result<()> {
        self.counters.delete(&backend.counter)
    }

    /// Writes the backends and the Maglev table under a number that no set has.
    fn write_set(&self, rule: &Rule) -> Result<u32> {
        let set = self.unused_set()?;
        for (index, backend) in (0..).zip(&rule.backends) {
            self.backends
                .put(&abi::set_key { set, index }, &stored_backend(backend))?;
        }
        let table = rule.maglev(abi::MAGLEV_SLOTS as usize);
        for (index, slots) in (0..).zip(table.chunks(abi::MAGLEV_CHUNK as usize)) {
            let mut chunk = abi::maglev_chunk {
                slot: [0; abi::MAGLEV_CHUNK as usize],
            };
            chunk.slot[..slots.len()].copy_from_slice(slots);
            self.maglev.put(&abi::set_key { set, index }, &chunk)?;
        }
        Ok(set)
    }

    fn unused_set(&self) -> Result<u32> {
        loop {
            let set = fastrand::u32(1..);
            if self
                .backends
                .get(&abi::set_key { set, index: 0 })?
                .is_none()
            {
                return Ok(set);
            }
        }
    }

    /// To be called once no packet is on its way through the set.
    fn delete_set(&self, rule: &abi::rule) -> Result<()> {
        let set = rule.set;
        if rule.backends <= 1 {
            return Ok(());
        }
        for index in 0..abi::MAGLEV_CHUNKS {
            self.maglev.delete(&abi::set_key { set, index })?;
        }
        // The first backend marks the number as in use, so it goes last.
        for index in (0..rule.backends.into()).rev() {
            self.backends.delete(&abi::set_key { set, index })?;
        }
        Ok(())
    }

    /// Tries, and once more after a sweep: runs that were killed half-way leave sets and counters
    /// that no rule names, and their room is needed only when a map is full. The counters of
    /// `pending` backends are in use, though no rule names them yet.
    fn collecting_garbage<T>(
        &self,
        pending: &[Backend],
        attempt: impl Fn() -> Result<T>,
    ) -> Result<T> {
        match attempt() {
            Err(error) if error.is::<Full>() => {
                self.collect_garbage(pending)?;
                attempt()
            }
            result => result,
        }
    }

    fn collect_garbage(&self, pending: &[Backend]) -> Result<()> {
        let mut sets = HashSet::new();
        for key in self.rules.keys()? {
            sets.extend(self.rules.get(&key)?.map(|rule| rule.set));
        }
        let rules = self.list()?;
        let named = rules.iter().flat_map(|rule| &rule.backends).chain(pending);
        let counters: HashSet<u32> = named.map(|backend| backend.counter).collect();

        let unnamed = |key: &abi::set_key| !sets.contains(&key.set);
        for key in self.backends.keys()?.into_iter().filter(unnamed) {
            self.backends.delete(&key)?;
        }
        for key in self.maglev.keys()?.into_iter().filter(unnamed) {
            self.maglev.delete(&key)?;
        }
        for key in self
            .counters
            .keys()?
            .into_iter()
            .filter(|key| !counters.contains(key))
        {
            self.counters.delete(&key)?;
        }
        Ok(())
    }
}

fn key_of(matches: &Match) -> abi::rule_key {
    abi::rule_key {
        prefixlen: abi::RULE_KEY_FIXED_BITS + u32::from(matches.src.prefix_len()),
        proto: match matches.proto {
            Proto::Udp => IPPROTO_UDP,
            Proto::Tcp => IPPROTO_TCP,
        },
        zero: 0,
        port: matches.port.to_be(),
        saddr: u32::from(matches.src.network()).to_be(),
    }
}

fn match_of(key: &abi::rule_key) -> Result<Match> {
    let length = key.prefixlen.saturating_sub(abi::RULE_KEY_FIXED_BITS) as u8;
    Ok(Match {
        src: Ipv4Net::new(u32::from_be(key.saddr).into(), length)?,
        proto: if key.proto == IPPROTO_TCP {
            Proto::Tcp
        } else {
            Proto::Udp
        },
        port: u16::from_be(key.port),
    })
}

fn stored_backend(backend: &Backend) -> abi::backend {
    let mut frame = [0; 12];
    frame[..6].copy_from_slice(&backend.mac.0);
    frame[6..].copy_from_slice(&backend.source_mac.0);
    abi::backend {
        addr: u32::from(backend.server).to_be(),
        ifindex: backend.ifindex,
        counter: backend.counter,
        weight: backend.weight.into(),
        frame,
        flags: if backend.completes_checksum {
            abi::BACKEND_COMPLETES_CHECKSUM
        } else {
            0
        },
    }
}

fn backend_of(stored: &abi::backend) -> Backend {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = stored.frame;
    Backend {
        server: Ipv4Addr::from(u32::from_be(stored.addr)),
        mac: Mac([a, b, c, d, e, f]),
        source_mac: Mac([g, h, i, j, k, l]),
        ifindex: stored.ifindex,
        weight: stored.weight as u16,
        completes_checksum: stored.flags & abi::BACKEND_COMPLETES_CHECKSUM != 0,
        counter: stored.counter,
    }
}
