//! The rules as rows, for `rule list` and `stats`.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};

use anyhow::Result;

use crate::datapath::RuleStore;
use crate::host::device;
use crate::model::{Backend, Rule};
use crate::show::json::RuleRow;

pub fn all(store: &RuleStore) -> Result<Vec<RuleRow>> {
    let mut names = HashMap::new();
    let mut rows = Vec::new();
    for rule in store.list()? {
        for backend in &rule.backends {
            let ifname = match names.entry(backend.ifindex) {
                Occupied(known) => known.into_mut(),
                Vacant(new) => new.insert(name_in_service(store, backend.ifindex)?),
            };
            let counter = store.counter(backend)?;
            rows.push(RuleRow::new(&rule, backend, ifname.clone(), counter));
        }
    }
    Ok(rows)
}

pub fn one(store: &RuleStore, rule: &Rule, backend: &Backend) -> Result<RuleRow> {
    let ifname = name_in_service(store, backend.ifindex)?;
    Ok(RuleRow::new(rule, backend, ifname, store.counter(backend)?))
}

/// The name of an egress device; none where packets cannot be redirected to it.
fn name_in_service(store: &RuleStore, ifindex: u32) -> Result<Option<String>> {
    let in_service = store.has_egress(ifindex)?;
    Ok(device::name_of(ifindex).filter(|_| in_service))
}
