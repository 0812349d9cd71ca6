//! Takes a server out of use: no new flows begin there, and it is deleted once its connections are over.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use anyhow::Result;

use super::RuleSelector;
use crate::datapath::{self, FlowTable, Lock, Pins, RuleStore};
use crate::model::{Connection, ForAnswers, Match, Rule, Weight};

/// A server that takes no new flows.
pub struct Draining<'a> {
    pins: &'a Pins,
    server: IpAddr,
    /// The rules in which it is a backend without new flows.
    rules: Vec<Match>,
    /// Of these backends.
    counters: HashSet<u32>,
    /// The rule set in which that was so.
    revision: u64,
    /// How many backends it was.
    pub backends: usize,
    /// How many of them are of rules that remember no connections.
    pub forgetful: usize,
    pub for_answers: ForAnswers,
}

/// How far a server is drained.
pub enum Progress {
    /// So many connections go on.
    Left(u64),
    Done(Drained),
}

/// What was done at the end.
#[derive(Default)]
pub struct Drained {
    /// The rules whose backend was deleted.
    pub deleted: Vec<Match>,
    /// What was done where no rule needs it for answers any more.
    pub for_answers: ForAnswers,
}

/// Gives no new flows to a server in the selected rules. Packets that come once this returns begin none.
pub fn drain<'a>(pins: &'a Pins, server: IpAddr, rules: &RuleSelector) -> Result<Draining<'a>> {
    let selector = rules.of_server(server);
    let lock = Lock::take(pins)?;
    let store = RuleStore::open(pins)?;
    let rules = selector.rules(&store)?;
    selector.require(&rules)?;
    let mut draining = Draining::of(pins, server, &rules);
    let none = BTreeSet::new();
    let ((), for_answers) = store.edit(&lock, &none, draining.rules.iter().copied(), |rules| {
        let backends = rules.iter_mut().flat_map(|rule| &mut rule.backends);
        let ours = backends.filter(|backend| backend.server == server);
        ours.for_each(|backend| backend.weight = Weight::NONE);
        Ok(())
    })?;
    draining.for_answers = for_answers;
    draining.revision = store.revision()?;
    datapath::wait_for_readers();
    Ok(draining)
}

impl<'a> Draining<'a> {
    fn of(pins: &'a Pins, server: IpAddr, rules: &[Rule]) -> Self {
        let backends = rules.iter().filter_map(|rule| rule.backend(server));
        let remembers = |rule: &&Rule| {
            let backend = rule.backend(server);
            backend.is_some_and(|backend| rule.remembers_those_of(backend))
        };
        let remembered = rules.iter().filter(remembers);
        Draining {
            pins,
            server,
            rules: rules.iter().map(|rule| rule.matches).collect(),
            counters: backends.filter_map(|backend| backend.counter).collect(),
            revision: 0,
            backends: rules.len(),
            forgetful: rules.len() - remembered.count(),
            for_answers: ForAnswers::default(),
        }
    }

    /// Looks how many connections are left. Where none is, the backends are deleted.
    pub fn step(&mut self) -> Result<Progress> {
        let store = datapath::read(self.pins, || RuleStore::open(self.pins))?;
        let store = store.ok_or_else(|| datapath::not_attached(self.pins))?;
        self.follow(&store)?;
        match self.left()? {
            0 => self.delete(),
            left => Ok(Progress::Left(left)),
        }
    }

    /// Leaves out what other runs have deleted, or given new flows again.
    fn follow(&mut self, store: &RuleStore) -> Result<()> {
        let revision = store.revision()?;
        if revision == self.revision {
            return Ok(());
        }
        let mut kept = Vec::new();
        self.counters.clear();
        for matches in std::mem::take(&mut self.rules) {
            let rule = store.get(&matches)?;
            let backend = rule.as_ref().and_then(|rule| rule.backend(self.server));
            if let Some(backend) = backend.filter(|b| b.weight == Weight::NONE) {
                self.counters.extend(backend.counter);
                kept.push(matches);
            }
        }
        self.rules = kept;
        self.revision = revision;
        Ok(())
    }

    fn left(&self) -> Result<u64> {
        let table = datapath::read(self.pins, || FlowTable::open(self.pins))?.flatten();
        let connections = table.iter().flat_map(|t| t.connections_of(&self.counters));
        // A counter of a rule that was deleted may be another backend's.
        let ours = connections.filter(|connection| connection.server == self.server);
        Ok(ours.filter(Connection::goes_on).count() as u64)
    }

    /// Another run may have let new flows in meanwhile: under the lock, none can.
    fn delete(&mut self) -> Result<Progress> {
        let lock = Lock::take(self.pins)?;
        let store = RuleStore::open(self.pins)?;
        self.follow(&store)?;
        let left = self.left()?;
        if left > 0 {
            return Ok(Progress::Left(left));
        }
        let (none, rules) = (BTreeSet::new(), self.rules.iter().copied());
        let (deleted, for_answers) = store.edit(&lock, &none, rules, |rules| {
            let deleted = rules.iter().map(|rule| rule.matches).collect();
            rules.retain_mut(|rule| {
                rule.remove(self.server);
                !rule.backends.is_empty()
            });
            Ok(deleted)
        })?;
        Ok(Progress::Done(Drained {
            deleted,
            for_answers,
        }))
    }
}
