//! New ways to the backends of a rule.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use crate::datapath::RuleStore;
use crate::model::{Adjacency, Backend, Rule};

/// Rules that are renewed under one lock: others wait no longer than that takes.
pub const AT_ONCE: usize = 1024;

/// What is to become of a rule. The caller holds the lock.
pub struct Rebind {
    rule: Rule,
    /// By their places.
    backends: BTreeMap<usize, Backend>,
    /// Those whose way was not found, or is another's, and why.
    pub failed: Vec<(Backend, String)>,
}

impl Rebind {
    /// `way` is asked for each backend; it has none for those that stay.
    fn plan<'a>(
        store: &RuleStore,
        rule: Rule,
        way: impl Fn(&Backend) -> Option<&'a Result<Adjacency, String>>,
    ) -> Result<Self> {
        let mut backends = BTreeMap::new();
        let mut failed = Vec::new();
        for (place, backend) in rule.backends.iter().enumerate() {
            match way(backend) {
                Some(Ok(way))
                    if *way != Adjacency::of(backend) || !store.has_egress(way.ifindex)? =>
                {
                    backends.insert(place, way.given_to(backend));
                }
                Some(Err(why)) => failed.push((backend.clone(), why.clone())),
                _ => {}
            }
        }
        let mut plan = Rebind {
            rule,
            backends,
            failed,
        };
        plan.give_way();
        Ok(plan)
    }

    /// For some rules as they are by now: another run may have changed or deleted them meanwhile.
    pub fn plan_all<'a>(
        store: &RuleStore,
        rules: &[Rule],
        way: impl Fn(&Backend) -> Option<&'a Result<Adjacency, String>>,
    ) -> Result<Vec<Self>> {
        let mut plans = Vec::new();
        for rule in rules {
            if let Some(rule) = store.get(&rule.matches)? {
                plans.push(Self::plan(store, rule, &way)?);
            }
        }
        Ok(plans)
    }

    /// Drops those whose new address another backend of the rule has, or is to have.
    fn give_way(&mut self) {
        while let Some(place) = self.taken() {
            let why = match self.backends.remove(&place) {
                Some(new) => format!("its new address {} is another backend's", new.server),
                None => return,
            };
            self.failed.push((self.rule.backends[place].clone(), why));
        }
    }

    fn taken(&self) -> Option<usize> {
        let old = &self.rule.backends;
        let server = |place: usize| self.backends.get(&place).unwrap_or(&old[place]).server;
        let others = |place| (0..old.len()).filter(move |&other| other != place);
        let moved = |place: &usize| server(*place) != old[*place].server;
        self.backends
            .keys()
            .copied()
            .filter(moved)
            .find(|&place| others(place).any(|other| server(other) == server(place)))
    }

    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The backends that change: as they were, and as they are to be.
    pub fn changes(&self) -> impl Iterator<Item = (&Backend, &Backend)> {
        let old = |place: &usize| &self.rule.backends[*place];
        self.backends
            .iter()
            .map(move |(place, new)| (old(place), new))
    }

    fn give(&self, rule: &mut Rule) {
        let old = std::mem::take(&mut rule.backends);
        for (place, backend) in old.into_iter().enumerate() {
            rule.put(self.backends.get(&place).cloned().unwrap_or(backend));
        }
    }
}

/// The caller holds the lock since they were planned.
pub fn carry_out(store: &RuleStore, renewals: &[Rebind]) -> Result<()> {
    let renewals: Vec<&Rebind> = renewals.iter().filter(|r| !r.backends.is_empty()).collect();
    let mut rules: Vec<Rule> = renewals.iter().map(|r| r.rule.clone()).collect();
    let new = renewals.iter().flat_map(|r| r.backends.values());
    let egress: BTreeSet<u32> = new.map(|new| new.ifindex).collect();
    store.require_egress(&egress)?;
    for ifindex in egress {
        let held = rules.iter_mut().flat_map(|rule| &mut rule.backends);
        store
            .open_egress(ifindex, held)
            .with_context(|| format!("ifindex {ifindex}"))?;
    }
    for (rule, renewal) in rules.iter_mut().zip(renewals) {
        renewal.give(rule);
    }
    store.put_all(&rules)
}
