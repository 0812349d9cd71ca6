//! Servers whose locator leads nowhere any more.

use super::remedies;
use crate::doctor::facts::{BackendFacts, Facts, LostLocator};
use crate::model::{Finding, Locator};

pub fn check(setup: &Facts) -> Vec<Finding> {
    let of = |target: &BackendFacts| {
        let findings = target.lost.iter();
        let findings = findings.filter_map(|lost| finding(setup, target, lost));
        findings.collect::<Vec<_>>()
    };
    setup.backends.iter().flat_map(of).collect()
}

/// Packets go where it was. Routes have a check of their own, and no container engine is asked.
fn finding(setup: &Facts, target: &BackendFacts, lost: &LostLocator) -> Option<Finding> {
    let found = match &lost.locator {
        Locator::Device(name) => format!("on device {name}, and no device has that name now"),
        Locator::Netns(name) => format!("in the network namespace {name}, which is gone"),
        Locator::Pid { pid, .. } => {
            format!("in the network namespace of the process {pid}, which has ended")
        }
        Locator::Route | Locator::Container(_) => return None,
    };
    let server = target.server;
    let finding = Finding::warning("locator", format!("server {server}"))
        .consequence("once it moves, it can't be found again")
        .evidence(format!("its rules found it {found}"));
    Some(
        finding.mend(match (&lost.locator, setup.serving(target.ifindex)) {
            (Locator::Device(_), Some(now)) => remedies::by_device(target, lost, now.name()),
            _ => "`rule add` it with what finds it otherwise".into(),
        }),
    )
}
