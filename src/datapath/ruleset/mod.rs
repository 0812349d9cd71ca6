//! The rules in the kernel.
//!
//! A rule has its only backend in itself, or names a set of them, which never changes once it is
//! named. A change writes a new set, then the rule: that one map update is the moment at which all
//! packets, and all other runs, see the new state.

pub(super) mod codec;
pub(super) mod locators;
pub(super) mod room;
mod sets;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use self::codec::{
    ServiceBytes, bytes_of_service, in_itself, key_of, length_bit, length_of, match_of, needs_set,
    only_of, rule_of, service_bytes, set_size, union, words_of,
};
use self::locators::Locators;
use self::room::{Usage, batch_of};
use self::sets::{Sets, Tables};
use crate::datapath::cause::exit_code;
use crate::datapath::counter_banks::CounterBanks;
use crate::datapath::interface::interfaces;
use crate::datapath::ledger::Ledger;
use crate::datapath::maps::{Full, Map};
use crate::datapath::{Pins, abi, sys};
use crate::error::Exit;
use crate::model::{Backend, Counter, Failures, LedgerState, Locator, Match, Rule};

/// New rules without a set to a system call.
const BATCH: usize = 16384;

/// How often a rule is read that others change meanwhile.
const READS: usize = 100;

/// What a change takes at most, of a batch of rules on a busy machine.
const A_CHANGE: Duration = Duration::from_millis(500);

type Entry = (abi::rule_key, abi::rule);

pub struct RuleStore {
    ruleset: Map<u32, u64>,
    services: Map<abi::service_key, abi::prefix_lengths>,
    rules: Map<abi::rule_key, abi::rule>,
    sets: Sets,
    fragments: Map<abi::flow_key, abi::first_fragment>,
    counters: CounterBanks,
    ledger: Ledger,
    /// All interfaces keep a ledger.
    counts_all: bool,
    origins: Locators,
    egress: Map<u32, u32>,
    /// The generation that a run has left in a change, and this one has waited for in vain.
    abandoned: Cell<Option<u64>>,
}

impl RuleStore {
    /// To read, see `Pins::read`; to write, the caller holds the lock on the pins.
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(RuleStore {
            ruleset: Map::open(&pins.map("generation"), "generation")?,
            services: Map::open(&pins.map("prefix_lengths"), "prefix_lengths")?,
            rules: Map::open(&pins.map("rules"), "rules")?,
            sets: Sets::open(pins)?,
            fragments: Map::open(&pins.map("fragments"), "fragments")?,
            counters: CounterBanks::open(pins)?,
            ledger: Ledger::open(pins)?,
            counts_all: interfaces(pins)?
                .iter()
                .all(|interface| interface.ledger == LedgerState::On),
            origins: Locators::open(pins)?,
            egress: Map::open(&pins.map("egress"), "egress")?,
            abandoned: Cell::new(None),
        })
    }

    /// How many matches have a rule.
    pub fn count(&self) -> Result<usize> {
        self.rules.count()
    }

    /// All rules, in the order of protocol, port and source; each as it was at one moment, whatever
    /// other runs do meanwhile.
    pub fn list(&self) -> Result<Vec<Rule>> {
        let before = self.generation()?;
        let entries = self.rules.entries()?;
        let mut rules = entries
            .iter()
            .map(|(key, value)| self.rule(match_of(key)?, value))
            .collect::<Result<Vec<_>>>()?;
        let mut origins = self.origins.all()?;
        for backend in rules.iter_mut().flat_map(|rule| &mut rule.backends) {
            backend.origin = origins.remove(&backend.counter);
        }
        let whole = |((_, value), rule): (&Entry, &Rule)| is_whole(value, rule);
        if self.has_changed_since(before)? || !entries.iter().zip(&rules).all(whole) {
            rules = self.settled(&entries, rules)?;
        }
        rules.sort_by_key(|rule| rule.matches);
        Ok(rules)
    }

    /// Reads again what others have changed while it was read: what was half changed then is another
    /// value once that change is done.
    fn settled(&self, entries: &[Entry], rules: Vec<Rule>) -> Result<Vec<Rule>> {
        self.wait_for_changes()?;
        let pairs = entries.iter().zip(rules);
        let read: HashMap<&[u8], (&abi::rule, Rule)> = pairs
            .map(|((key, value), rule)| (abi::bytes_of(key), (value, rule)))
            .collect();
        let mut settled = Vec::new();
        for (key, value) in self.rules.entries()? {
            match read.get(abi::bytes_of(&key)) {
                Some((before, rule)) if same(before, &value) && is_whole(&value, rule) => {
                    settled.push(rule.clone());
                }
                _ => settled.extend(self.get(&match_of(&key)?)?),
            }
        }
        Ok(settled)
    }

    /// A rule as it was at one moment: a set is deleted, and a counter given to another backend, only
    /// once no rule names it.
    pub fn get(&self, matches: &Match) -> Result<Option<Rule>> {
        for _ in 0..READS {
            let Some(value) = self.stored(matches)? else {
                return Ok(None);
            };
            let rule = self.with_origins(*matches, &value)?;
            // If it was being changed while it was read, it is another one after that change.
            self.wait_for_changes()?;
            if self.stored(matches)?.is_some_and(|now| same(&now, &value)) {
                return Ok(Some(rule));
            }
        }
        bail!("{matches}: others change the rule too fast for it to be read: try again");
    }

    /// Whether anything has changed since then, or was being changed.
    fn has_changed_since(&self, generation: u64) -> Result<bool> {
        Ok(self.is_changing(generation) || self.generation()? != generation)
    }

    /// Odd while a change is made, and for ever after one whose run was killed.
    fn is_changing(&self, generation: u64) -> bool {
        generation & 1 == 1 && self.abandoned.get() != Some(generation)
    }

    /// Until a moment at which nobody changes anything. A change that takes too long is a killed run's,
    /// or that of a stopped one, and not waited for again.
    fn wait_for_changes(&self) -> Result<()> {
        let mut current = self.generation()?;
        let mut since = Instant::now();
        while self.is_changing(current) {
            sleep(Duration::from_millis(1));
            let now = self.generation()?;
            if now != current {
                (current, since) = (now, Instant::now());
            } else if since.elapsed() > A_CHANGE {
                self.abandoned.set(Some(current));
            }
        }
        Ok(())
    }

    fn with_origins(&self, matches: Match, value: &abi::rule) -> Result<Rule> {
        let mut rule = self.rule(matches, value)?;
        for backend in &mut rule.backends {
            backend.origin = self.origins.get(backend.counter)?;
        }
        Ok(rule)
    }

    /// All but its backends' origins. A member that is missing was never written by us, or is no
    /// rule's any more; the rule can still be fixed or deleted.
    fn rule(&self, matches: Match, value: &abi::rule) -> Result<Rule> {
        Ok(match value.set {
            0 => rule_of(matches, &[only_of(value)]),
            set => rule_of(matches, &self.sets.read(set)?),
        })
    }

    /// Another one after each change, and while one is made.
    fn generation(&self) -> Result<u64> {
        Ok(self.ruleset.get(&0)?.unwrap_or_default())
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

    fn new_counters(&self, count: usize, pending: &[Rule]) -> Result<Vec<u32>> {
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
        self.ledger.of(abi::UNATTRIBUTED)
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
                value.inline_backend = words_of(&only);
                self.rules.put(&key, &value)?;
            }
        }
        self.sets.orphan(ifindex)
    }

    /// That these devices find room. To be called before the first of them is opened.
    pub fn require_egress(&self, wanted: &BTreeSet<u32>) -> Result<()> {
        let mut all = BTreeSet::from_iter(self.egress.keys()?);
        let known = all.clone();
        all.extend(wanted);
        if room::EGRESS.allows(all.len()) {
            return Ok(());
        }
        // Those that no rule leads to any more take the room.
        let mut used = wanted.clone();
        for (_, value) in self.rules.entries()? {
            used.extend(Some(only_of(&value).ifindex).filter(|_| value.set == 0));
        }
        used.extend(
            self.sets
                .members()?
                .iter()
                .map(|(_, member)| member.ifindex),
        );
        used.remove(&0);
        room::EGRESS.require(used.len())?;
        let unused = known.difference(&used);
        unused
            .into_iter()
            .try_for_each(|ifindex| self.egress.delete(ifindex))
    }

    /// That a rule finds room in place of the one that has its match. To be called before the first
    /// change that is made for it.
    pub fn require_room(&self, rule: &Rule) -> Result<()> {
        let old = self.get(&rule.matches)?;
        let new = || {
            rule.backends.iter().filter(|backend| {
                let old = old.as_ref().and_then(|old| old.backend(backend.server));
                old.is_none()
            })
        };
        let in_set = |rule: &Rule| rule.backends.len() * usize::from(needs_set(rule));
        let more = in_set(rule).saturating_sub(old.as_ref().map_or(0, in_set));
        let known = |backend: &Backend| {
            let old = old.as_ref()?.backend(backend.server)?;
            old.origin.as_ref()
        };
        let remembers = |backend: &&Backend| backend.origin.is_some() && known(backend).is_none();
        let remembered = rule.backends.iter().filter(remembers).count();
        let added = new().count();
        let service = abi::from_bytes(&service_bytes(&key_of(&rule.matches)))?;
        let is_served = || Ok::<_, anyhow::Error>(self.services.get(&service)?.is_some());
        let enough = (added == 0 || self.counters.allow(added)?)
            && (more == 0 || self.sets.allocated()?.allows(more))
            && (remembered == 0 || room::LOCATORS.allows(self.origins.count()? + remembered))
            && (is_served()? || room::SERVICES.allows(self.services.count()? + 1));
        if enough {
            return Ok(());
        }
        // What runs that were killed have left is counted, too: now the rules themselves are.
        self.require_room_for(std::slice::from_ref(rule)).map(drop)
    }

    /// That rules find room, in the order of their matches; with the set of each that is there.
    fn require_room_for(&self, rules: &[Rule]) -> Result<Vec<Option<u32>>> {
        let mut usage = Usage::default();
        rules.iter().for_each(|rule| usage.add(rule));
        let backends = rules.iter().flat_map(|rule| &rule.backends);
        let origins = backends.filter(|backend| backend.origin.is_some()).count();
        let mut there = vec![None; rules.len()];
        let mut others = Vec::new();
        for batch in self.rules.batches()? {
            for (key, value) in batch? {
                let matches = match_of(&key)?;
                match rules.binary_search_by_key(&matches, |rule| rule.matches) {
                    Ok(place) => there[place] = Some(value.set),
                    Err(_) => {
                        usage.add_stored(&key, &value);
                        others.extend(Some(value).filter(|_| origins > 0));
                    }
                }
            }
        }
        usage.require_room()?;
        self.require_origins(origins, &others)?;
        Ok(there)
    }

    /// The same of what is remembered of how backends were found, beside that of other rules.
    fn require_origins(&self, wanted: usize, others: &[abi::rule]) -> Result<()> {
        if wanted == 0 || room::LOCATORS.allows(wanted + self.origins.count()?) {
            return Ok(());
        }
        let sets: HashSet<u32> = others.iter().map(|rule| rule.set).collect();
        let single = others.iter().filter(|rule| rule.set == 0);
        let mut counters: HashSet<u32> = single.map(|rule| only_of(rule).counter).collect();
        let members = self.sets.members()?;
        let members = members.iter().filter(|(set, _)| sets.contains(set));
        counters.extend(members.map(|(_, member)| member.counter));
        let known = self.origins.counters()?;
        room::LOCATORS.require(wanted + known.intersection(&counters).count())
    }

    /// Stores a rule in place of the one that has its match.
    pub fn put(&self, rule: &Rule) -> Result<()> {
        self.put_without(rule, &[])
    }

    /// The same for many.
    pub fn put_all(&self, rules: &[Rule]) -> Result<()> {
        let mut rest = rules;
        while !rest.is_empty() {
            let (batch, others) = rest.split_at(batch_of(rest));
            self.put_batch(batch, &[])?;
            rest = others;
        }
        Ok(())
    }

    /// The same for one, where these backends are no longer among the rule's.
    pub fn put_without(&self, rule: &Rule, gone: &[Backend]) -> Result<()> {
        self.put_batch(std::slice::from_ref(rule), gone)
    }

    fn put_batch(&self, rules: &[Rule], gone: &[Backend]) -> Result<()> {
        if rules.is_empty() {
            return Ok(());
        }
        let old = self.swap(rules)?;
        self.retire(&old, gone)
    }

    /// Stores a batch of rules. The sets that those had before are no rule's now.
    ///
    /// The origins come before the rules, within the same change: a run that is killed in between
    /// leaves the old adjacency of a backend, which `rule refresh` makes the new one.
    fn swap(&self, rules: &[Rule]) -> Result<Vec<u32>> {
        let old = rules
            .iter()
            .map(|rule| self.stored(&rule.matches))
            .collect::<Result<Vec<_>>>()?;
        let news = self.news(rules)?;
        let tables = Tables::default();
        let store = || {
            let values = self.collecting_garbage(rules, || self.values(rules, &tables))?;
            let change = self.change()?;
            self.collecting_garbage(rules, || self.remember(&news))?;
            self.publish(&change, rules, &values)
        };
        if let Err(error) = store() {
            self.forget(rules, &news);
            return Err(error);
        }
        let sets = old.iter().flatten().map(|old| old.set);
        Ok(sets.filter(|&set| set != 0).collect())
    }

    /// The backends that were found another time or in another manner, with what is known of them.
    fn news<'a>(&self, rules: &'a [Rule]) -> Result<Vec<(&'a Backend, Option<Locator>)>> {
        let mut news = Vec::new();
        for backend in rules.iter().flat_map(|rule| &rule.backends) {
            let known = self.origins.get(backend.counter)?;
            if known != backend.origin {
                news.push((backend, known));
            }
        }
        Ok(news)
    }

    fn remember(&self, news: &[(&Backend, Option<Locator>)]) -> Result<()> {
        news.iter()
            .try_for_each(|(backend, _)| self.origins.put(backend.counter, backend.origin.as_ref()))
    }

    /// The values of rules, whose sets are written.
    fn values(&self, rules: &[Rule], tables: &Tables) -> Result<Vec<abi::rule>> {
        let value = |rule| match in_itself(rule) {
            Some(value) => Ok(value),
            None => Ok(abi::rule {
                set: self.sets.write(rule, tables)?,
                ..Default::default()
            }),
        };
        rules.iter().map(value).collect()
    }

    /// What a batch that was not stored has left. A rule that has its new value all the same keeps it.
    fn forget(&self, rules: &[Rule], news: &[(&Backend, Option<Locator>)]) {
        for (backend, known) in news {
            let _ = self.origins.put(backend.counter, known.as_ref());
        }
        let _ = self.collect_garbage(rules);
    }

    /// Frees sets and backends' counters that no rule names any more.
    fn retire(&self, sets: &[u32], gone: &[Backend]) -> Result<()> {
        if sets.is_empty() && gone.is_empty() {
            return Ok(());
        }
        sys::wait_for_readers();
        sets.iter().try_for_each(|&set| self.sets.delete(set))?;
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
                first.backend.counter = abi::UNATTRIBUTED;
                self.fragments.put(&key, &first)?;
            }
        }
        Ok(())
    }

    /// The prefix lengths first: one that no rule has costs a lookup, a rule without it is not found.
    fn publish(&self, _: &Change, rules: &[Rule], values: &[abi::rule]) -> Result<()> {
        let keys: Vec<abi::rule_key> = rules.iter().map(|rule| key_of(&rule.matches)).collect();
        let mut services: BTreeMap<ServiceBytes, abi::prefix_lengths> = BTreeMap::new();
        for key in &keys {
            let lengths = services.entry(service_bytes(key)).or_default();
            *lengths = union(*lengths, length_of(key));
        }
        self.put_lengths(&services)?;
        self.rules.put_many(&keys, values)
    }

    /// Adds prefix lengths to services. Runs that were killed half-way leave services without rules,
    /// and their room is needed only when the map is full.
    fn put_lengths(&self, wanted: &BTreeMap<ServiceBytes, abi::prefix_lengths>) -> Result<()> {
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

    fn forget_unused_services(
        &self,
        wanted: &BTreeMap<ServiceBytes, abi::prefix_lengths>,
    ) -> Result<()> {
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

    /// Stores many rules, in place of those that have their matches. Nothing is changed where they
    /// don't find room.
    ///
    /// Rules that lose backends, or what is remembered of how they were found, come first, so that
    /// there is never more than in the end. New ones without a set, the many, go to the kernel in large
    /// batches.
    pub fn load(&self, mut rules: Vec<Rule>, mut progress: impl FnMut(usize)) -> Result<()> {
        rules.sort_by_key(|rule| rule.matches);
        let there = self.require_room_for(&rules)?;
        let backends = rules.iter().flat_map(|rule| &rule.backends);
        let egress: BTreeSet<u32> = backends.map(|backend| backend.ifindex).collect();
        self.require_egress(&egress)?;
        for ifindex in egress {
            self.open_egress(ifindex, [])?;
        }
        let (mut shrinking, mut new, mut growing) = (Vec::new(), Vec::new(), Vec::new());
        for (rule, there) in rules.into_iter().zip(there) {
            let members = rule.backends.len() * usize::from(needs_set(&rule));
            let forgets = rule.backends.iter().all(|backend| backend.origin.is_none());
            let before = |set| set_size(set) as usize;
            match there {
                Some(set) if members < before(set) => shrinking.push(rule),
                Some(set) if members == before(set) && forgets => shrinking.push(rule),
                None if members == 0 => new.push(rule),
                _ => growing.push(rule),
            }
        }
        let mut done = 0;
        let mut advance = |count| {
            done += count;
            progress(done);
        };
        self.load_others(&mut shrinking, &mut advance)?;
        if let Err(error) = self.load_new(&mut new, &mut advance) {
            let _ = self.collect_garbage(&[]);
            return Err(error);
        }
        self.load_others(&mut growing, &mut advance)
    }

    /// New rules without a set.
    fn load_new(&self, rules: &mut [Rule], mut progress: impl FnMut(usize)) -> Result<()> {
        let counters = self.new_counters(rules.len(), &[])?;
        for (rule, counter) in rules.iter_mut().zip(counters) {
            rule.backends[0].counter = counter;
        }
        for batch in rules.chunks(BATCH) {
            self.collecting_garbage(rules, || self.remember_new(batch))?;
            let values: Vec<abi::rule> = batch.iter().filter_map(in_itself).collect();
            self.publish(&self.change()?, batch, &values)?;
            progress(batch.len());
        }
        Ok(())
    }

    fn remember_new(&self, rules: &[Rule]) -> Result<()> {
        let backends = rules.iter().flat_map(|rule| &rule.backends);
        let found = backends.filter(|backend| backend.origin.is_some());
        found
            .into_iter()
            .try_for_each(|backend| self.origins.put(backend.counter, backend.origin.as_ref()))
    }

    fn load_others(&self, rules: &mut [Rule], mut progress: impl FnMut(usize)) -> Result<()> {
        let mut rest = rules;
        while !rest.is_empty() {
            let (batch, others) = rest.split_at_mut(batch_of(rest));
            self.load_batch(batch)?;
            progress(batch.len());
            rest = others;
        }
        Ok(())
    }

    /// Rules that are there already, or need a set. Backends that were there keep their counters.
    fn load_batch(&self, rules: &mut [Rule]) -> Result<()> {
        // Under the lock nobody changes it meanwhile.
        let read = |rule: &Rule| match self.stored(&rule.matches)? {
            Some(value) => self.with_origins(rule.matches, &value).map(Some),
            None => Ok(None),
        };
        let before = rules.iter().map(read).collect::<Result<Vec<_>>>()?;
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
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        for (rule, before) in rules.iter().zip(before) {
            if before.as_ref() == Some(rule) {
                continue;
            }
            changed.push(rule.clone());
            let old = before.into_iter().flat_map(|old| old.backends);
            gone.extend(old.filter(|old| rule.backend(old.server).is_none()));
        }
        self.put_batch(&changed, &gone)
    }

    /// The flow cache rests until this is dropped, and forgets then.
    fn change(&self) -> Result<Change<'_>> {
        let generation = self.generation()?;
        // Odd already: a run was killed half-way.
        let generation = generation | 1;
        self.ruleset.put(&0, &generation)?;
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

    /// Tries, and once more after a sweep: runs that were killed half-way leave sets, counters and
    /// origins that no rule names, and their room is needed only when a map is full, or when only root
    /// could make more. The counters of `pending` rules are in use, though no rule may name them yet;
    /// what the first attempt has written of their sets goes.
    fn collecting_garbage<T>(
        &self,
        pending: &[Rule],
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

    fn collect_garbage(&self, pending: &[Rule]) -> Result<()> {
        let rules = self.rules.entries()?;
        let sets: HashSet<u32> = rules.iter().map(|(_, rule)| rule.set).collect();
        let single = rules.iter().filter(|(_, rule)| rule.set == 0);
        let mut counters: HashSet<u32> = single.map(|(_, rule)| only_of(rule).counter).collect();
        let members = self.sets.members()?;
        let members = members.iter().filter(|(set, _)| sets.contains(set));
        counters.extend(members.map(|(_, member)| member.counter));
        let pending = pending.iter().flat_map(|rule| &rule.backends);
        counters.extend(pending.map(|backend| backend.counter));

        sys::wait_for_readers();
        self.sets.keep_only(&sets)?;
        self.origins.keep_only(&counters)?;
        self.counters.keep_only(&counters)
    }
}

/// As far as its backends are concerned.
fn is_whole(value: &abi::rule, rule: &Rule) -> bool {
    value.set == 0 || rule.backends.len() == set_size(value.set) as usize
}

fn same(one: &abi::rule, other: &abi::rule) -> bool {
    abi::bytes_of(one) == abi::bytes_of(other)
}

/// A change of the rules, while it lasts.
struct Change<'a> {
    ruleset: &'a Map<u32, u64>,
    generation: u64,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let generation = self.generation.wrapping_add(1);
        // If it fails, the flow cache rests until the next change: slow, but right.
        let _ = self.ruleset.put(&0, &generation);
    }
}
