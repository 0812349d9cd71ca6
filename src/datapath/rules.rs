//! The rules in the kernel.
//!
//! A rule has its only backend in itself, or names a set of them, which never changes once it is
//! named. A change writes a new set, then the rule: that one map update is the moment at which all
//! packets, and all other runs, see the new state.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use ipnet::IpNet;

use super::banks::Banks;
use super::maps::{Full, Map};
use super::origins::Origins;
use super::{Pins, abi, sys};
use crate::model::{Backend, Counter, Mac, Match, Proto, Rewrite, Rule};

/// Linux uapi: linux/in.h.
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;

/// Rules to a system call.
const BATCH: usize = 16384;

pub struct RuleStore {
    ruleset: Map<u32, abi::ruleset>,
    services: Map<abi::service_key, abi::service>,
    rules: Map<abi::rule_key, abi::rule>,
    members: Map<abi::set_key, abi::backend>,
    maglev: Map<abi::set_key, abi::maglev_chunk>,
    counters: Banks,
    origins: Origins,
    egress: Map<u32, u32>,
}

impl RuleStore {
    /// The caller holds the lock on the pins, exclusively to write.
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(RuleStore {
            ruleset: Map::open(&pins.map("ruleset"), "ruleset")?,
            services: Map::open(&pins.map("services"), "services")?,
            rules: Map::open(&pins.map("rules"), "rules")?,
            members: Map::open(&pins.map("members"), "members")?,
            maglev: Map::open(&pins.map("maglev"), "maglev")?,
            counters: Banks::open(pins)?,
            origins: Origins::open(pins)?,
            egress: Map::open(&pins.map("egress"), "egress")?,
        })
    }

    /// How many matches have a rule.
    pub fn count(&self) -> Result<usize> {
        Ok(self.rules.entries()?.len())
    }

    /// All rules, in the order of protocol, port and source.
    pub fn list(&self) -> Result<Vec<Rule>> {
        let entries = self.rules.entries()?.into_iter();
        let mut rules = entries
            .map(|(key, value)| self.rule(match_of(&key)?, &value))
            .collect::<Result<Vec<_>>>()?;
        let mut origins = self.origins.all()?;
        for backend in rules.iter_mut().flat_map(|rule| &mut rule.backends) {
            backend.origin = origins.remove(&backend.counter);
        }
        rules.sort_by_key(|rule| rule.matches);
        Ok(rules)
    }

    pub fn get(&self, matches: &Match) -> Result<Option<Rule>> {
        let Some(stored) = self.stored(matches)? else {
            return Ok(None);
        };
        let mut rule = self.rule(*matches, &stored)?;
        for backend in &mut rule.backends {
            backend.origin = self.origins.get(backend.counter)?;
        }
        Ok(Some(rule))
    }

    /// All but its backends' origins.
    fn rule(&self, matches: Match, value: &abi::rule) -> Result<Rule> {
        let backends = match value.set {
            0 => vec![backend_of(&only_of(value))],
            set => self.members(set)?,
        };
        Ok(Rule { matches, backends })
    }

    fn members(&self, set: u32) -> Result<Vec<Backend>> {
        let mut members = Vec::new();
        for index in 0..set_size(set) {
            let member = self.members.get(&abi::set_key { set, index })?;
            // One that is missing was never written by us; the rule can still be mended or deleted.
            members.extend(member.as_ref().map(backend_of));
        }
        Ok(members)
    }

    fn stored(&self, matches: &Match) -> Result<Option<abi::rule>> {
        self.rules.get(&key_of(matches))
    }

    pub fn counter(&self, backend: &Backend) -> Result<Counter> {
        self.counters.total(backend.counter)
    }

    /// A counter at zero, for a new backend.
    pub fn new_counter(&self) -> Result<u32> {
        Ok(self.new_counters(1, &[])?[0])
    }

    fn new_counters(&self, count: usize, pending: &[Backend]) -> Result<Vec<u32>> {
        self.collecting_garbage(pending, || self.counters.create(count))
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
    ///
    /// The origins come first: a run that is killed in between leaves the old way to a backend, which
    /// `rule refresh` makes the new one.
    pub fn put(&self, rule: &Rule) -> Result<()> {
        let mut before = Vec::new();
        for backend in &rule.backends {
            let known = self.origins.get(backend.counter)?;
            if known != backend.origin {
                before.push((backend, known));
            }
        }
        let remember = || {
            before
                .iter()
                .try_for_each(|(b, _)| self.origins.put(b.counter, b.origin.as_ref()))
        };
        let stored = self
            .collecting_garbage(&rule.backends, remember)
            .and_then(|()| self.store(rule));
        if stored.is_err() {
            for (backend, known) in &before {
                let _ = self.origins.put(backend.counter, known.as_ref());
            }
        }
        stored
    }

    fn store(&self, rule: &Rule) -> Result<()> {
        let old = self.stored(&rule.matches)?;
        let key = key_of(&rule.matches);
        let new = match in_itself(rule) {
            Some(value) => value,
            None => abi::rule {
                set: self.collecting_garbage(&rule.backends, || self.write_set(rule))?,
                ..Default::default()
            },
        };
        if let Err(error) = self.publish(&key, &new) {
            let _ = self.delete_set(new.set);
            return Err(error);
        }
        match old {
            Some(old) if old.set != 0 => {
                sys::wait_for_readers();
                self.delete_set(old.set)
            }
            _ => Ok(()),
        }
    }

    /// The prefix length first: one that no rule has costs a lookup, a rule without it is not found.
    fn publish(&self, key: &abi::rule_key, rule: &abi::rule) -> Result<()> {
        let _change = self.change()?;
        let service = service_of(key);
        let mut lengths = self.services.get(&service)?.unwrap_or_default();
        if add_length(&mut lengths, key) {
            self.services.put(&service, &lengths)?;
        }
        self.rules.put(key, rule)
    }

    /// Stores many rules. New ones without a set, the many, go to the kernel in batches.
    pub fn load(&self, rules: Vec<Rule>, mut progress: impl FnMut(usize)) -> Result<()> {
        let empty = self.rules.each_key().next().is_none();
        let (mut batch, mut single) = (Vec::new(), Vec::new());
        for rule in rules {
            if in_itself(&rule).is_some() && (empty || self.stored(&rule.matches)?.is_none()) {
                batch.push(rule);
            } else {
                single.push(rule);
            }
        }
        let mut done = 0;
        for chunk in batch.chunks_mut(BATCH) {
            self.load_new(chunk)?;
            done += chunk.len();
            progress(done);
        }
        for rule in single {
            self.replace(rule)?;
            done += 1;
            progress(done);
        }
        Ok(())
    }

    /// New rules without a set, whose only backend has no counter yet.
    fn load_new(&self, rules: &mut [Rule]) -> Result<()> {
        let counters = self.new_counters(rules.len(), &[])?;
        let mut services: BTreeMap<ServiceBytes, abi::service> = BTreeMap::new();
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (rule, counter) in rules.iter_mut().zip(counters) {
            let backend = &mut rule.backends[0];
            backend.counter = counter;
            if backend.origin.is_some() {
                self.origins.put(counter, backend.origin.as_ref())?;
            }
            let key = key_of(&rule.matches);
            add_length(services.entry(service_bytes(&key)).or_default(), &key);
            keys.push(key);
            values.extend(in_itself(rule));
        }
        let _change = self.change()?;
        for (service, lengths) in services {
            let service: abi::service_key = abi::from_bytes(&service)?;
            let mut there = self.services.get(&service)?.unwrap_or_default();
            for (word, more) in there.lengths.iter_mut().zip(lengths.lengths) {
                *word |= more;
            }
            self.services.put(&service, &there)?;
        }
        self.rules.put_many(&keys, &values)
    }

    /// Stores a rule whose backends have no counters yet: those that were there keep theirs.
    fn replace(&self, mut rule: Rule) -> Result<()> {
        let old = self.get(&rule.matches)?;
        for index in 0..rule.backends.len() {
            let (pending, rest) = rule.backends.split_at_mut(index);
            let known = old.as_ref().and_then(|old| old.backend(rest[0].server));
            rest[0].counter = match known {
                Some(known) => known.counter,
                None => self.new_counters(1, pending)?[0],
            };
        }
        self.put(&rule)?;
        let gone = old.into_iter().flat_map(|old| old.backends);
        let gone: Vec<Backend> = gone.filter(|b| rule.backend(b.server).is_none()).collect();
        if !gone.is_empty() {
            sys::wait_for_readers();
        }
        gone.iter().try_for_each(|b| self.delete_counter(b))
    }

    /// The flow cache rests until this is dropped, and forgets then.
    fn change(&self) -> Result<Change<'_>> {
        let generation = self.ruleset.get(&0)?.map_or(0, |now| now.generation);
        // Odd already: a run was killed half-way.
        let generation = generation | 1;
        self.ruleset.put(&0, &abi::ruleset { generation })?;
        Ok(Change {
            ruleset: &self.ruleset,
            generation,
        })
    }

    pub fn delete(&self, rule: &Rule) -> Result<()> {
        self.delete_all(std::slice::from_ref(rule))
    }

    /// Deletes rules with their backends' counters.
    pub fn delete_all(&self, rules: &[Rule]) -> Result<()> {
        let mut sets = Vec::new();
        let change = self.change()?;
        for rule in rules {
            sets.extend(self.stored(&rule.matches)?.map(|stored| stored.set));
            self.rules.delete(&key_of(&rule.matches))?;
        }
        self.forget_lengths(rules)?;
        drop(change);
        sys::wait_for_readers();
        sets.into_iter().try_for_each(|set| self.delete_set(set))?;
        rules
            .iter()
            .flat_map(|rule| &rule.backends)
            .try_for_each(|b| self.delete_counter(b))
    }

    /// The prefix lengths that only the deleted rules had. Looks at other rules until each length
    /// is seen, which is soon where many have it.
    fn forget_lengths(&self, deleted: &[Rule]) -> Result<()> {
        let mut unseen: BTreeSet<(ServiceBytes, u8)> = deleted
            .iter()
            .map(|rule| key_of(&rule.matches))
            .map(|key| (service_bytes(&key), key.prefixlen))
            .collect();
        for key in self.rules.each_key() {
            if unseen.is_empty() {
                break;
            }
            let key = key?;
            unseen.remove(&(service_bytes(&key), key.prefixlen));
        }
        for (service, prefixlen) in unseen {
            let service: abi::service_key = abi::from_bytes(&service)?;
            let Some(mut lengths) = self.services.get(&service)? else {
                continue;
            };
            let (word, bit) = length_bit(service.family, prefixlen);
            lengths.lengths[word] &= !bit;
            if lengths.lengths == [0; 3] {
                self.services.delete(&service)?;
            } else {
                self.services.put(&service, &lengths)?;
            }
        }
        Ok(())
    }

    /// To be called once no packet is on its way to the backend.
    pub fn delete_counter(&self, backend: &Backend) -> Result<()> {
        // In this order: what no backend has, has no origin.
        self.origins.put(backend.counter, None)?;
        self.counters.release(backend.counter)
    }

    /// Writes the backends and the Maglev table under a number that no set has.
    fn write_set(&self, rule: &Rule) -> Result<u32> {
        let set = self.unused_set(rule.backends.len())?;
        for (index, backend) in (0..).zip(&rule.backends) {
            self.members
                .put(&abi::set_key { set, index }, &stored_backend(backend))?;
        }
        if rule.backends.len() > 1 {
            self.write_maglev(set, &rule.maglev(abi::MAGLEV_SLOTS as usize))?;
        }
        Ok(set)
    }

    /// The slots go to the chunks by turns.
    fn write_maglev(&self, set: u32, table: &[u8]) -> Result<()> {
        for index in 0..abi::MAGLEV_CHUNKS {
            let mut chunk = abi::maglev_chunk {
                slot: [0; abi::MAGLEV_CHUNK as usize],
            };
            let slots = table.iter().skip(index as usize);
            let slots = slots.step_by(abi::MAGLEV_CHUNKS as usize);
            chunk
                .slot
                .iter_mut()
                .zip(slots)
                .for_each(|(to, from)| *to = *from);
            self.maglev.put(&abi::set_key { set, index }, &chunk)?;
        }
        Ok(())
    }

    fn unused_set(&self, backends: usize) -> Result<u32> {
        loop {
            let set = fastrand::u32(..) << 8 | backends as u32;
            if self.members.get(&abi::set_key { set, index: 0 })?.is_none() {
                return Ok(set);
            }
        }
    }

    /// To be called once no packet is on its way through the set.
    fn delete_set(&self, set: u32) -> Result<()> {
        if set_size(set) > 1 {
            for index in 0..abi::MAGLEV_CHUNKS {
                self.maglev.delete(&abi::set_key { set, index })?;
            }
        }
        // The first backend marks the number as in use, so it goes last.
        for index in (0..set_size(set)).rev() {
            self.members.delete(&abi::set_key { set, index })?;
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
        let sets: HashSet<u32> = self
            .rules
            .entries()?
            .iter()
            .map(|(_, rule)| rule.set)
            .collect();
        let rules = self.list()?;
        let named = rules.iter().flat_map(|rule| &rule.backends).chain(pending);
        let counters: HashSet<u32> = named.map(|backend| backend.counter).collect();

        let unnamed = |key: &&abi::set_key| !sets.contains(&key.set);
        for key in self.members.keys()?.iter().filter(unnamed) {
            self.members.delete(key)?;
        }
        for key in self.maglev.keys()?.iter().filter(unnamed) {
            self.maglev.delete(key)?;
        }
        self.origins.keep_only(&counters)?;
        self.counters.keep_only(&counters)
    }
}

/// A change of the rules, while it lasts.
struct Change<'a> {
    ruleset: &'a Map<u32, abi::ruleset>,
    generation: u64,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let generation = self.generation.wrapping_add(1);
        // If it fails, the flow cache rests until the next change: slow, but right.
        let _ = self.ruleset.put(&0, &abi::ruleset { generation });
    }
}

type ServiceBytes = [u8; size_of::<abi::service_key>()];

fn service_of(key: &abi::rule_key) -> abi::service_key {
    abi::service_key {
        port: key.port,
        vlan: key.vlan,
        proto: key.proto,
        family: key.family,
        zero: 0,
    }
}

fn service_bytes(key: &abi::rule_key) -> ServiceBytes {
    let service = service_of(key);
    let mut bytes = [0; size_of::<abi::service_key>()];
    bytes.copy_from_slice(abi::bytes_of(&service));
    bytes
}

/// Which bit of a service stands for a prefix length.
fn length_bit(family: u8, prefixlen: u8) -> (usize, u64) {
    let longest = if u32::from(family) == abi::FAMILY_IPV6 {
        128
    } else {
        32
    };
    let missing = usize::from(u8::saturating_sub(longest, prefixlen));
    (missing / 64, 1 << (missing % 64))
}

/// Whether that is a new one.
fn add_length(service: &mut abi::service, key: &abi::rule_key) -> bool {
    let (word, bit) = length_bit(key.family, key.prefixlen);
    let new = service.lengths[word] & bit == 0;
    service.lengths[word] |= bit;
    new
}

fn key_of(matches: &Match) -> abi::rule_key {
    let (saddr, family) = stored_addr(matches.src.network());
    abi::rule_key {
        saddr,
        port: matches.port.to_be(),
        vlan: matches.vlan,
        proto: match matches.proto {
            Proto::Udp => IPPROTO_UDP,
            Proto::Tcp => IPPROTO_TCP,
        },
        family: family as u8,
        prefixlen: matches.src.prefix_len(),
        zero: 0,
    }
}

fn match_of(key: &abi::rule_key) -> Result<Match> {
    Ok(Match {
        src: IpNet::new(addr_of(key.saddr, key.family.into()), key.prefixlen)?,
        proto: if key.proto == IPPROTO_TCP {
            Proto::Tcp
        } else {
            Proto::Udp
        },
        port: u16::from_be(key.port),
        vlan: key.vlan,
    })
}

/// An address as four words in network byte order, and its family.
fn stored_addr(addr: IpAddr) -> ([u32; 4], u32) {
    match addr {
        IpAddr::V4(addr) => ([u32::from(addr).to_be(), 0, 0, 0], abi::FAMILY_IPV4),
        IpAddr::V6(addr) => {
            let bits = u128::from(addr);
            let word = |i: u32| ((bits >> (96 - 32 * i)) as u32).to_be();
            ([word(0), word(1), word(2), word(3)], abi::FAMILY_IPV6)
        }
    }
}

fn addr_of(words: [u32; 4], family: u32) -> IpAddr {
    let [a, b, c, d] = words.map(u32::from_be);
    if family == abi::FAMILY_IPV6 {
        let bits = [a, b, c, d]
            .into_iter()
            .fold(0u128, |bits, word| bits << 32 | u128::from(word));
        IpAddr::V6(Ipv6Addr::from(bits))
    } else {
        IpAddr::V4(Ipv4Addr::from(a))
    }
}

fn set_size(set: u32) -> u32 {
    set & 0xff
}

/// The value of a rule that needs no set.
fn in_itself(rule: &Rule) -> Option<abi::rule> {
    let [only] = rule.backends.as_slice() else {
        return None;
    };
    if only.rewrite.snat.is_some() {
        return None;
    }
    let mut value = abi::rule::default();
    let stored = stored_backend(only);
    let bytes = abi::bytes_of(&stored).chunks_exact(size_of::<u32>());
    for (word, bytes) in value.only.iter_mut().zip(bytes) {
        *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    Some(value)
}

/// Its only backend, of a rule without a set.
fn only_of(value: &abi::rule) -> abi::backend {
    let mut stored = abi::backend::default();
    abi::bytes_of_mut(&mut stored)[..size_of_val(&value.only)]
        .copy_from_slice(&value.only.map(u32::to_ne_bytes).concat());
    stored
}

fn stored_backend(backend: &Backend) -> abi::backend {
    let mut frame = [0; 12];
    frame[..6].copy_from_slice(&backend.mac.0);
    frame[6..].copy_from_slice(&backend.source_mac.0);
    let rewrite = &backend.rewrite;
    let flags = [
        (backend.completes_checksum, abi::BACKEND_COMPLETES_CHECKSUM),
        (rewrite.keep_ip, abi::BACKEND_KEEP_IP),
        (rewrite.snat.is_some(), abi::BACKEND_SNAT),
        (rewrite.decrement_ttl, abi::BACKEND_DECREMENT_TTL),
        (rewrite.push_vlan.is_some(), abi::BACKEND_PUSH_VLAN),
        (rewrite.pop_vlan, abi::BACKEND_POP_VLAN),
        (backend.server.is_ipv6(), abi::BACKEND_IPV6),
    ];
    abi::backend {
        addr: stored_addr(backend.server).0,
        snat: rewrite.snat.map_or([0; 4], |addr| stored_addr(addr).0),
        ifindex: backend.ifindex,
        counter: backend.counter,
        frame,
        port: rewrite.to_port.unwrap_or(0).to_be(),
        vlan: rewrite.push_vlan.unwrap_or(0).to_be(),
        weight: backend.weight,
        flags: flags
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, flag)| *flag as u16)
            .sum(),
        zero: 0,
    }
}

fn backend_of(stored: &abi::backend) -> Backend {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = stored.frame;
    let has = |flag: u32| u32::from(stored.flags) & flag != 0;
    let family = if has(abi::BACKEND_IPV6) {
        abi::FAMILY_IPV6
    } else {
        abi::FAMILY_IPV4
    };
    Backend {
        server: addr_of(stored.addr, family),
        mac: Mac([a, b, c, d, e, f]),
        source_mac: Mac([g, h, i, j, k, l]),
        ifindex: stored.ifindex,
        weight: stored.weight,
        completes_checksum: has(abi::BACKEND_COMPLETES_CHECKSUM),
        rewrite: Rewrite {
            to_port: Some(u16::from_be(stored.port)).filter(|&port| port != 0),
            snat: has(abi::BACKEND_SNAT).then(|| addr_of(stored.snat, family)),
            keep_ip: has(abi::BACKEND_KEEP_IP),
            decrement_ttl: has(abi::BACKEND_DECREMENT_TTL),
            push_vlan: has(abi::BACKEND_PUSH_VLAN).then(|| u16::from_be(stored.vlan)),
            pop_vlan: has(abi::BACKEND_POP_VLAN),
        },
        counter: stored.counter,
        origin: None,
    }
}
