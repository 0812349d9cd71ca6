//! New ways to the backends of a rule.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::datapath::RuleStore;
use crate::model::{Backend, Rule, Way};

/// What is to become of a rule. The caller holds the lock.
pub struct Renewal {
    rule: Rule,
    /// By their places.
    backends: BTreeMap<usize, Backend>,
    /// Those whose way was not found, or is another's, and why.
    pub failed: Vec<(Backend, String)>,
}

impl Renewal {
    /// `way` is asked for each backend; it has none for those that stay.
    pub fn plan<'a>(
        store: &RuleStore,
        rule: Rule,
        way: impl Fn(&Backend) -> Option<&'a Result<Way, String>>,
    ) -> Result<Self> {
        let mut backends = BTreeMap::new();
        let mut failed = Vec::new();
        for (place, backend) in rule.backends.iter().enumerate() {
            match way(backend) {
                Some(Ok(way)) if *way != Way::of(backend) || !store.has_egress(way.ifindex)? => {
                    backends.insert(place, way.given_to(backend));
                }
                Some(Err(why)) => failed.push((backend.clone(), why.clone())),
                _ => {}
            }
        }
        let mut plan = Renewal {
            rule,
            backends,
            failed,
        };
        plan.give_way();
        Ok(plan)
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

    pub fn carry_out(&self, store: &RuleStore) -> Result<()> {
        if self.backends.is_empty() {
            return Ok(());
        }
        let mut old = self.rule.backends.clone();
        for new in self.backends.values() {
            store
                .open_egress(new.ifindex, &mut old)
                .with_context(|| format!("ifindex {}", new.ifindex))?;
        }
        let mut rule = Rule {
            matches: self.rule.matches,
            backends: Vec::new(),
        };
        for (place, backend) in old.into_iter().enumerate() {
            rule.put(self.backends.get(&place).cloned().unwrap_or(backend));
        }
        store.put(&rule)
    }
}
