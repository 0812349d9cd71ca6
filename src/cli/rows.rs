//! The rules as rows, for `rule list` and `stats`.

use std::collections::HashMap;

use anyhow::Result;

use super::filter;
use super::grammar::Filter;
use xdpredir::datapath::RuleStore;
use xdpredir::doctor::health::States;
use xdpredir::model::{Backend, Failures, Rule};
use xdpredir::view::json::RuleRow;

/// Of the backends that are meant.
pub fn of(store: &RuleStore, meant: &Filter) -> Result<Vec<RuleRow>> {
    let mut rows = Rows::new(store)?;
    let mut all = Vec::new();
    for rule in filter::rules(store, meant)? {
        let backends = rule.backends.iter();
        for backend in backends.filter(|backend| filter::is_wanted(meant, backend)) {
            all.push(rows.row(&rule, backend)?);
        }
    }
    Ok(all)
}

pub fn one(store: &RuleStore, rule: &Rule, backend: &Backend) -> Result<RuleRow> {
    Rows::new(store)?.row(rule, backend)
}

/// What is asked once for all rows.
struct Rows<'store> {
    store: &'store RuleStore,
    states: States<'store>,
    /// Read before the counters, so that no more are lost than there are. None: nobody counts.
    failures: Option<HashMap<u32, Failures>>,
}

impl<'store> Rows<'store> {
    fn new(store: &'store RuleStore) -> Result<Self> {
        Ok(Rows {
            store,
            states: States::new(store)?,
            failures: store.failures()?,
        })
    }

    fn row(&mut self, rule: &Rule, backend: &Backend) -> Result<RuleRow> {
        let (state, ifname) = self.states.of(backend)?;
        let lost = |all: &HashMap<u32, Failures>| all.get(&backend.counter).copied();
        let failures = self.failures.as_ref();
        let failures = failures.map(|all| lost(all).unwrap_or_default());
        let counter = self.store.counter(backend)?;
        Ok(RuleRow::new(
            rule, backend, state, ifname, counter, failures,
        ))
    }
}
