//! Finds backends again, the way they were found before.

use anyhow::Result;

use super::RuleSelector;
use crate::datapath::{self, Draft, Pins};
use crate::doctor::{Rebind, Rediscovery, Source};
use crate::host::device;
use crate::model::{
    Adjacency, Backend, FailedBackend, NamedAdjacency, RefreshReport, RefreshedBackend,
};

/// Gives the selected backends the adjacencies that they have now.
pub fn refresh(pins: &Pins, selector: &RuleSelector) -> Result<RefreshReport> {
    let read = Draft::read(pins, |store| selector.rules(store))?;
    let (mut draft, rules) = read.ok_or_else(|| datapath::not_attached(pins))?;
    selector.require(&rules)?;
    let locator = |backend: &Backend| backend.origin.clone().map(Source::Host);
    let rediscovery = Rediscovery::of(&rules, |backend| {
        locator(backend).filter(|_| selector.matches_backend(backend))
    });
    let mut report = RefreshReport::default();
    for rules in rediscovery.batches() {
        let (lock, store) = draft.lock()?;
        let (rebinds, for_answers) = rediscovery.rebind(store, &lock, rules, |_| Ok(()))?;
        report.for_answers.extend(for_answers);
        rebinds.iter().for_each(|rebind| add(&mut report, rebind));
    }
    Ok(report)
}

fn add(report: &mut RefreshReport, rebind: &Rebind) {
    let matches = rebind.matches;
    let ingress = matches.ingress.and_then(device::name_of);
    let named = |adjacency: Adjacency| NamedAdjacency {
        adjacency,
        ifname: device::name_of(adjacency.ifindex),
    };
    let refreshed = rebind.changes.iter().map(|(old, new)| RefreshedBackend {
        matches,
        ingress: ingress.clone(),
        origin: old.origin.clone(),
        old: named(old.adjacency),
        new: named(*new),
    });
    report.refreshed.extend(refreshed);
    let failed = rebind.failed.iter().map(|(backend, why)| FailedBackend {
        matches,
        ingress: ingress.clone(),
        server: backend.server,
        origin: backend.origin.clone(),
        error: why.clone(),
    });
    report.failed.extend(failed);
}
