//! The rules as rows, for `rule list` and `stats`.

use anyhow::Result;

use super::state::States;
use crate::datapath::RuleStore;
use crate::model::{Backend, Rule};
use crate::show::json::RuleRow;

pub fn all(store: &RuleStore) -> Result<Vec<RuleRow>> {
    let mut states = States::new(store);
    let mut rows = Vec::new();
    for rule in store.list()? {
        for backend in &rule.backends {
            rows.push(row(store, &mut states, &rule, backend)?);
        }
    }
    Ok(rows)
}

pub fn one(store: &RuleStore, rule: &Rule, backend: &Backend) -> Result<RuleRow> {
    row(store, &mut States::new(store), rule, backend)
}

fn row(store: &RuleStore, states: &mut States, rule: &Rule, backend: &Backend) -> Result<RuleRow> {
    let (state, ifname) = states.of(backend)?;
    let counter = store.counter(backend)?;
    Ok(RuleRow::new(rule, backend, state, ifname, counter))
}
