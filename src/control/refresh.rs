//! Finds backends again, the way they were found before.

use anyhow::Result;

use super::RuleSelector;
use crate::datapath::{self, Lock, Pins, RuleStore};
use crate::doctor::{self, AT_ONCE, Rebind, Resolutions};
use crate::host::device;
use crate::model::{Backend, FailedBackend, NamedAdjacency, RefreshReport, RefreshedBackend, Rule};

/// Gives the selected backends the adjacencies that they have now.
pub fn refresh(pins: &Pins, selector: &RuleSelector) -> Result<RefreshReport> {
    let rules = datapath::read(pins, || selector.rules(&RuleStore::open(pins)?))?;
    let rules = rules.ok_or_else(|| datapath::not_attached(pins))?;
    selector.require(&rules)?;
    // Without the lock: a server that is silent takes seconds.
    let resolutions = find(&rules, selector);
    let mut report = RefreshReport::default();
    if resolutions.is_empty() {
        return Ok(report);
    }
    let adjacency = |backend: &Backend| {
        let found = resolutions.get(backend.origin.as_ref()?, backend.server);
        found.filter(|_| selector.matches_backend(backend))
    };
    for some in rules.chunks(AT_ONCE) {
        let _lock = Lock::take(pins)?;
        let store = RuleStore::open(pins)?;
        let rebinds = Rebind::plan_all(&store, some, adjacency)?;
        doctor::carry_out(&store, &rebinds)?;
        rebinds.iter().for_each(|rebind| add(&mut report, rebind));
    }
    Ok(report)
}

fn find(rules: &[Rule], selector: &RuleSelector) -> Resolutions {
    let backends = rules.iter().flat_map(|rule| &rule.backends);
    let selected = backends.filter(|backend| selector.matches_backend(backend));
    let sought = |backend: &Backend| Some((backend.origin.clone()?, backend.server));
    Resolutions::find(selected.filter_map(sought).collect())
}

fn add(report: &mut RefreshReport, rebind: &Rebind) {
    let matches = rebind.rule().matches;
    let named = |backend: &Backend| NamedAdjacency::new(backend, device::name_of(backend.ifindex));
    let refreshed = rebind.changes().map(|(old, new)| RefreshedBackend {
        matches,
        origin: old.origin.clone(),
        old: named(old),
        new: named(new),
    });
    report.refreshed.extend(refreshed);
    let failed = rebind.failed.iter().map(|(backend, why)| FailedBackend {
        matches,
        server: backend.server,
        origin: backend.origin.clone(),
        error: why.clone(),
    });
    report.failed.extend(failed);
}
