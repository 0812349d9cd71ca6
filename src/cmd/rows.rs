//! The rules as rows, for `rule list` and `stats`.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};

use anyhow::Result;

use crate::datapath::RuleStore;
use crate::host::device;
use crate::model::{Backend, Failures, Rule};
use crate::show::json::RuleRow;

pub fn all(store: &RuleStore) -> Result<Vec<RuleRow>> {
    let failures = store.failures()?;
    let mut names = HashMap::new();
    let mut rows = Vec::new();
    for rule in store.list()? {
        for backend in &rule.backends {
            let ifname = match names.entry(backend.ifindex) {
                Occupied(known) => known.into_mut(),
                Vacant(new) => new.insert(name_in_service(store, backend.ifindex)?),
            };
            let counter = store.counter(backend)?;
            let lost = lost(failures.as_ref(), backend);
            rows.push(RuleRow::new(&rule, backend, ifname.clone(), counter, lost));
        }
    }
    Ok(rows)
}

pub fn one(store: &RuleStore, rule: &Rule, backend: &Backend) -> Result<RuleRow> {
    let ifname = name_in_service(store, backend.ifindex)?;
    // The losses first, so that there are no more of them than packets.
    let lost = lost(store.failures()?.as_ref(), backend);
    let counter = store.counter(backend)?;
    Ok(RuleRow::new(rule, backend, ifname, counter, lost))
}

/// None where nobody counts them.
fn lost(failures: Option<&HashMap<u32, Failures>>, backend: &Backend) -> Option<Failures> {
    failures.map(|failures| failures.get(&backend.counter).copied().unwrap_or_default())
}

/// The name of an egress device; none where packets cannot be redirected to it.
fn name_in_service(store: &RuleStore, ifindex: u32) -> Result<Option<String>> {
    let in_service = store.has_egress(ifindex)?;
    Ok(device::name_of(ifindex).filter(|_| in_service))
}
