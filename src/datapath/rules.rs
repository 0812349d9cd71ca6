//! The rules in the kernel.
//!
//! A rule has its only backend in itself, or names a set of them, which never changes once it is
//! named. A change writes a new set, then the rule: that one map update is the moment at which all
//! packets, and all other runs, see the new state.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::Result;

use super::banks::Banks;
use super::interface::interfaces;
use super::ledger::Ledger;
use super::maps::{Full, Map};
use super::origins::Origins;
use super::values::{
    ServiceBytes, backend_of, bytes_of_service, in_itself, key_of, length_bit, length_of, match_of,
    only_of, service_bytes, set_size, stored_backend, union, words_of,
};
use super::{Pins, abi, sys};
use crate::error::{Exit, exit_code};
use crate::model::{Backend, Counter, Failures, LedgerState, Match, Rule};

/// Rules to a system call.
const BATCH: usize = 16384;

/// Rules that are replaced before their old sets and counters are freed.
const REPLACED: usize = 1024;

pub struct RuleStore {
    ruleset: Map<u32, abi::ruleset>,
    services: Map<abi::service_key, abi::service>,
    rules: Map<abi::rule_key, abi::rule>,
    members: Map<abi::set_key, abi::backend>,
    maglev: Map<abi::set_key, abi::maglev_chunk>,
    fragments: Map<abi::flow_key, abi::fragmented>,
    counters: Banks,
    ledger: Ledger,
    /// All interfaces keep a ledger.
    counts_all: bool,
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
            fragments: Map::open(&pins.map("fragments"), "fragments")?,
            counters: Banks::open(pins)?,
            ledger: Ledger::open(&pins.state())?,
            counts_all: interfaces(pins)?
                .iter()
                .all(|interface| interface.ledger == LedgerState::On),
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
        let counters = self.collecting_garbage(pending, || self.counters.create(count))?;
        self.ledger.forget(&counters)?;
        Ok(counters)
    }

    /// What was lost after it was redirected, by the backends' counters; None where nobody counts, or
    /// not all do.
    pub fn failures(&self) -> Result<Option<HashMap<u32, Failures>>> {
        if !self.counts_all {
            return Ok(None);
        }
        self.ledger.failures()
    }

    /// What was lost and is in no backend's failures: the ledger was full, or a poll took more frames
    /// than it holds. None where no ledger was ever kept.
    pub fn unattributed(&self) -> Result<Option<Failures>> {
        self.ledger.of(abi::NOBODYS)
    }

    /// Whether packets can be redirected to a device: the kernel forgets one that is unregistered,
    /// even if another comes with the same index.
    pub fn has_egress(&self, ifindex: u32) -> Result<bool> {
        Ok(self.egress.get(&ifindex)?.is_some())
    }

    /// Makes a device one that packets can be redirected to. Backends of one that is gone and had the
    /// same index stay without a device: in the kernel, and among those held by the caller.
    pub fn open_egress<'a>(
        &self,
        ifindex: u32,
        held: impl IntoIterator<Item = &'a mut Backend>,
    ) -> Result<()> {
        if self.has_egress(ifindex)? {
            return Ok(());
        }
        self.orphan(ifindex)?;
        let orphans = held.into_iter().filter(|held| held.ifindex == ifindex);
        orphans.for_each(|backend| backend.ifindex = 0);
        self.egress.put(&ifindex, &ifindex)
    }

    fn orphan(&self, ifindex: u32) -> Result<()> {
        let _change = self.change()?;
        for (key, mut value) in self.rules.entries()? {
            let mut only = only_of(&value);
            if value.set == 0 && only.ifindex == ifindex {
                only.ifindex = 0;
                value.only = words_of(&only);
                self.rules.put(&key, &value)?;
            }
        }
        for (key, mut member) in self.members.entries()? {
            if member.ifindex == ifindex {
                member.ifindex = 0;
                self.members.put(&key, &member)?;
            }
        }
        Ok(())
    }

    /// Stores a rule in place of the one that has its match.
    pub fn put(&self, rule: &Rule) -> Result<()> {
        self.put_without(rule, &[])
    }

    /// The same for many, whose old sets are freed together.
    pub fn put_all(&self, rules: &[Rule]) -> Result<()> {
        let mut sets = Vec::new();
        let stored = rules.iter().try_for_each(|rule| {
            sets.extend(self.swap(rule, &rule.backends)?);
            Ok(())
        });
        self.retire(&sets, &[])?;
        stored
    }

    /// The same, where these backends are no longer among the rule's.
    pub fn put_without(&self, rule: &Rule, gone: &[Backend]) -> Result<()> {
        let old = self.swap(rule, &rule.backends)?;
        self.retire(&Vec::from_iter(old), gone)
    }

    /// The set of the rule before, which is nobody's now. The counters of `pending` backends are in
    /// use, though no rule may name them yet.
    ///
    /// The origins come first: a run that is killed in between leaves the old way to a backend, which
    /// `rule refresh` makes the new one.
    fn swap(&self, rule: &Rule, pending: &[Backend]) -> Result<Option<u32>> {
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
            .collecting_garbage(pending, remember)
            .and_then(|()| self.store(rule, pending));
        if stored.is_err() {
            for (backend, known) in &before {
                let _ = self.origins.put(backend.counter, known.as_ref());
            }
        }
        stored
    }

    fn store(&self, rule: &Rule, pending: &[Backend]) -> Result<Option<u32>> {
        let old = self.stored(&rule.matches)?;
        let key = key_of(&rule.matches);
        let new = match in_itself(rule) {
            Some(value) => value,
            None => abi::rule {
                set: self.collecting_garbage(pending, || self.write_set(rule))?,
                ..Default::default()
            },
        };
        if let Err(error) = self.publish(&key, &new) {
            let _ = self.delete_set(new.set);
            return Err(error);
        }
        Ok(old.map(|old| old.set).filter(|&set| set != 0))
    }

    /// Frees sets and backends' counters that no rule names any more.
    fn retire(&self, sets: &[u32], gone: &[Backend]) -> Result<()> {
        if sets.is_empty() && gone.is_empty() {
            return Ok(());
        }
        sys::wait_for_readers();
        sets.iter().try_for_each(|&set| self.delete_set(set))?;
        if gone.is_empty() {
            return Ok(());
        }
        let counters: HashSet<u32> = gone.iter().map(|backend| backend.counter).collect();
        self.forget_fragments(&counters)?;
        // In this order: what no backend has, has no origin.
        self.origins.forget(&counters)?;
        self.counters.release(&counters)
    }

    /// Fragments follow their first one whatever becomes of the rule; who gets its counter next
    /// shall not have them counted.
    fn forget_fragments(&self, counters: &HashSet<u32>) -> Result<()> {
        for (key, mut first) in self.fragments.entries()? {
            if counters.contains(&first.backend.counter) {
                first.backend.counter = abi::NOBODYS;
                self.fragments.put(&key, &first)?;
            }
        }
        Ok(())
    }

    /// The prefix length first: one that no rule has costs a lookup, a rule without it is not found.
    fn publish(&self, key: &abi::rule_key, rule: &abi::rule) -> Result<()> {
        let _change = self.change()?;
        self.put_lengths(&BTreeMap::from([(service_bytes(key), length_of(key))]))?;
        self.rules.put(key, rule)
    }

    /// Adds prefix lengths to services. Runs that were killed half-way leave services without rules,
    /// and their room is needed only when the map is full.
    fn put_lengths(&self, wanted: &BTreeMap<ServiceBytes, abi::service>) -> Result<()> {
        let put = || {
            wanted.iter().try_for_each(|(service, lengths)| {
                let service: abi::service_key = abi::from_bytes(service)?;
                let before = self.services.get(&service)?.unwrap_or_default();
                let after = union(before, *lengths);
                if after.lengths == before.lengths {
                    return Ok(());
                }
                self.services.put(&service, &after)
            })
        };
        match put() {
            Err(error) if error.is::<Full>() => {
                self.forget_unused_services(wanted)?;
                put()
            }
            result => result,
        }
    }

    fn forget_unused_services(&self, wanted: &BTreeMap<ServiceBytes, abi::service>) -> Result<()> {
        let rules = self.rules.entries()?;
        let used: HashSet<ServiceBytes> = rules.iter().map(|(key, _)| service_bytes(key)).collect();
        for service in self.services.keys()? {
            let bytes = bytes_of_service(&service);
            if !used.contains(&bytes) && !wanted.contains_key(&bytes) {
                self.services.delete(&service)?;
            }
        }
        Ok(())
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
        let counters = self.new_counters(batch.len(), &[])?;
        for (rule, counter) in batch.iter_mut().zip(counters) {
            rule.backends[0].counter = counter;
        }
        let mut done = 0;
        for chunk in batch.chunks(BATCH) {
            self.load_new(chunk)?;
            done += chunk.len();
            progress(done);
        }
        for chunk in single.chunks_mut(REPLACED) {
            self.load_others(chunk)?;
            done += chunk.len();
            progress(done);
        }
        Ok(())
    }

    /// New rules without a set.
    fn load_new(&self, rules: &[Rule]) -> Result<()> {
        let mut services: BTreeMap<ServiceBytes, abi::service> = BTreeMap::new();
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for rule in rules {
            let backend = &rule.backends[0];
            if backend.origin.is_some() {
                self.origins.put(backend.counter, backend.origin.as_ref())?;
            }
            let key = key_of(&rule.matches);
            let lengths = services.entry(service_bytes(&key)).or_default();
            *lengths = union(*lengths, length_of(&key));
            keys.push(key);
            values.extend(in_itself(rule));
        }
        let _change = self.change()?;
        self.put_lengths(&services)?;
        self.rules.put_many(&keys, &values)
    }

    /// Rules that are there already, or need a set. Backends that were there keep their counters.
    fn load_others(&self, rules: &mut [Rule]) -> Result<()> {
        let before = rules
            .iter()
            .map(|rule| self.get(&rule.matches))
            .collect::<Result<Vec<_>>>()?;
        let known = |before: &Option<Rule>, backend: &Backend| {
            let rule = before.as_ref()?;
            rule.backend(backend.server).map(|known| known.counter)
        };
        let pairs = || rules.iter().zip(&before);
        let new = pairs().flat_map(|(rule, old)| rule.backends.iter().map(move |b| known(old, b)));
        let new = new.filter(Option::is_none).count();
        let mut counters = self.new_counters(new, &[])?.into_iter();
        for (rule, before) in rules.iter_mut().zip(&before) {
            for backend in &mut rule.backends {
                let counter = known(before, backend).or_else(|| counters.next());
                backend.counter = counter.unwrap_or_default();
            }
        }
        let (mut sets, mut gone) = (Vec::new(), Vec::new());
        let pending: Vec<Backend> = rules
            .iter()
            .flat_map(|rule| rule.backends.clone())
            .collect();
        let stored = rules.iter().zip(before).try_for_each(|(rule, before)| {
            if before.as_ref() == Some(rule) {
                return Ok(());
            }
            sets.extend(self.swap(rule, &pending)?);
            let old = before.into_iter().flat_map(|old| old.backends);
            gone.extend(old.filter(|old| rule.backend(old.server).is_none()));
            Ok(())
        });
        self.retire(&sets, &gone)?;
        stored
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
            let old = self.stored(&rule.matches)?.map(|stored| stored.set);
            sets.extend(old.filter(|&set| set != 0));
            self.rules.delete(&key_of(&rule.matches))?;
        }
        drop(change);
        self.forget_lengths(rules)?;
        let gone: Vec<Backend> = rules
            .iter()
            .flat_map(|rule| rule.backends.clone())
            .collect();
        self.retire(&sets, &gone)
    }

    /// The prefix lengths that only the deleted rules had. Looks at other rules until each length
    /// is seen, which is soon where many have it.
    fn forget_lengths(&self, deleted: &[Rule]) -> Result<()> {
        let mut unseen: BTreeSet<(ServiceBytes, u8)> = deleted
            .iter()
            .map(|rule| key_of(&rule.matches))
            .map(|key| (service_bytes(&key), key.prefixlen))
            .collect();
        for batch in self.rules.batches()? {
            if unseen.is_empty() {
                break;
            }
            for (key, _) in batch? {
                unseen.remove(&(service_bytes(&key), key.prefixlen));
            }
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
    /// that no rule names, and their room is needed only when a map is full, or when only root could
    /// make more. The counters of `pending` backends are in use, though no rule names them yet.
    fn collecting_garbage<T>(
        &self,
        pending: &[Backend],
        attempt: impl Fn() -> Result<T>,
    ) -> Result<T> {
        match attempt() {
            Err(error) if error.is::<Full>() || exit_code(&error) == Exit::Permission => {
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

        sys::wait_for_readers();
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
