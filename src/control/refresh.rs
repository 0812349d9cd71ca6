//! Finds backends again, the way they were found before.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;

use super::RuleSelector;
use super::source::{Renewed, Sources};
use crate::datapath::{self, Draft, Pins};
use crate::doctor::{RULES_AT_ONCE, Rebind, Rediscovery, Source};
use crate::host::device;
use crate::model::{
    Adjacency, Backend, FailedBackend, Match, NamedAdjacency, RefreshReport, RefreshedBackend, Rule,
};

/// Gives the selected backends the adjacencies that they have now, and their packets the sources.
pub fn refresh(pins: &Pins, selector: &RuleSelector) -> Result<RefreshReport> {
    let read = Draft::read(pins, |store| selector.rules(store))?;
    let (mut draft, rules) = read.ok_or_else(|| datapath::not_attached(pins))?;
    selector.require(&rules)?;
    let (lock, store) = draft.lock()?;
    let other_ends = store.find_other_ends(&lock)?;
    drop(lock);
    let locator = |backend: &Backend| backend.origin.clone().map(Source::Host);
    let rediscovery = Rediscovery::of(&rules, |backend| {
        locator(backend).filter(|_| selector.matches_backend(backend))
    });
    let mut report = RefreshReport {
        other_ends,
        ..RefreshReport::default()
    };
    for rules in rediscovery.batches() {
        let (lock, store) = draft.lock()?;
        let (rebinds, for_answers) = rediscovery.rebind(store, &lock, rules, |_| Ok(()))?;
        report.for_answers.extend(for_answers);
        rebinds
            .iter()
            .for_each(|rebind| self::report(&mut report, rebind));
    }
    refresh_sources(&mut draft, &rules, selector, &mut report)?;
    Ok(report)
}

/// Gives the selected backends the addresses by which this host reaches them now, where rules make these the
/// source of packets.
fn refresh_sources(
    draft: &mut Draft,
    rules: &[Rule],
    selector: &RuleSelector,
    report: &mut RefreshReport,
) -> Result<()> {
    let sources = Sources::of(rules, selector);
    for rules in sources.rules.chunks(RULES_AT_ONCE) {
        let (lock, store) = draft.lock()?;
        let (renewed, for_answers) =
            store.edit(&lock, &BTreeSet::new(), rules.iter().copied(), |rules| {
                let renewed = rules.iter_mut().flat_map(|rule| sources.renew(rule));
                Ok(renewed.collect::<Vec<_>>())
            })?;
        report.for_answers.extend(for_answers);
        renewed
            .iter()
            .for_each(|renewed| add_source(report, renewed));
    }
    Ok(())
}

/// Adds what became of the backends of a rule.
pub fn report(report: &mut RefreshReport, rebind: &Rebind) {
    let matches = rebind.matches;
    let refreshed = rebind.changes.iter();
    let refreshed =
        refreshed.map(|(old, new)| refreshed_backend(matches, old, (*new, old.own_source)));
    report.refreshed.extend(refreshed);
    let failed = rebind.failed.iter();
    let failed = failed.map(|(backend, why)| failed_backend(matches, backend, why));
    report.failed.extend(failed);
}

fn add_source(report: &mut RefreshReport, renewed: &Renewed) {
    let Renewed {
        matches,
        before,
        now,
    } = renewed;
    match now {
        Ok(now) => {
            let new = (before.adjacency, Some(*now));
            let refreshed = refreshed_backend(*matches, before, new);
            report.refreshed.push(refreshed);
        }
        Err(why) => report.failed.push(failed_backend(*matches, before, why)),
    }
}

/// A backend, with its new adjacency and the new source of packets to it.
fn refreshed_backend(
    matches: Match,
    old: &Backend,
    new: (Adjacency, Option<IpAddr>),
) -> RefreshedBackend {
    let named = |(adjacency, snat): (Adjacency, _)| NamedAdjacency {
        adjacency,
        ifname: device::name_of(adjacency.ifindex),
        snat,
    };
    RefreshedBackend {
        matches,
        ingress: matches.ingress.and_then(device::name_of),
        origin: old.origin.clone(),
        old: named((old.adjacency, old.own_source)),
        new: named(new),
    }
}

fn failed_backend(matches: Match, backend: &Backend, why: &str) -> FailedBackend {
    FailedBackend {
        matches,
        ingress: matches.ingress.and_then(device::name_of),
        server: Some(backend.server),
        origin: backend.origin.clone(),
        error: why.into(),
    }
}
