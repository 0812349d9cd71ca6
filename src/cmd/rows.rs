//! The rules as rows, for `rule list` and `stats`.

use anyhow::Result;

use crate::datapath::RuleStore;
use crate::host::device;
use crate::model::{Backend, Rule};
use crate::show::json::RuleRow;

pub fn all(store: &RuleStore) -> Result<Vec<RuleRow>> {
    let mut rows = Vec::new();
    for rule in store.list()? {
        for backend in &rule.backends {
            rows.push(one(store, &rule, backend)?);
        }
    }
    Ok(rows)
}

pub fn one(store: &RuleStore, rule: &Rule, backend: &Backend) -> Result<RuleRow> {
    let in_service = store.has_egress(backend.ifindex)?;
    let ifname = device::name_of(backend.ifindex).filter(|_| in_service);
    Ok(RuleRow::new(rule, backend, ifname, store.counter(backend)?))
}
