//! Servers whose locator leads nowhere any more.

use super::remedies;
use crate::doctor::facts::{BackendFacts, Facts, LostLocator};
use crate::model::{Finding, Locator};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let of = |backend| lost(facts, backend);
    facts.backends.iter().flat_map(of).collect()
}

fn lost<'a>(facts: &'a Facts, backend: &'a BackendFacts) -> impl Iterator<Item = Finding> + 'a {
    let finding = move |lost| finding(facts, backend, lost);
    backend.locators.lost.iter().filter_map(finding)
}

/// Packets go where it was. Routes have a check of their own, and no container engine is asked.
fn finding(facts: &Facts, backend: &BackendFacts, lost: &LostLocator) -> Option<Finding> {
    let found = match &lost.locator {
        Locator::Device(name) => format!("on device {name}, and no device has that name now"),
        Locator::Netns(name) => format!("in the network namespace {name}, which is gone"),
        Locator::Pid { pid, .. } => {
            format!("in the network namespace of the process {pid}, which has ended")
        }
        Locator::Route | Locator::Container(_) => return None,
    };
    let server = backend.server;
    let finding = Finding::warning("locator", format!("server {server}"))
        .consequence(remedies::LOST_IF_IT_MOVES)
        .evidence(format!("its rules found it {found}"));
    Some(
        finding.remedy(match (&lost.locator, facts.serving(backend.ifindex)) {
            (Locator::Device(_), Some(now)) => remedies::by_device(backend, lost, now.name()),
            _ => remedies::add_with_another_locator(),
        }),
    )
}
