//! Egress devices that are gone.

use super::remedies;
use crate::doctor::facts::{BackendFacts, Facts};
use crate::model::{Finding, Refreshed};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let gone = |backend: &&BackendFacts| facts.serving(backend.ifindex).is_none();
    let backends = facts.backends.iter().filter(gone);
    backends.map(|backend| finding(facts, backend)).collect()
}

fn finding(facts: &Facts, backend: &BackendFacts) -> Finding {
    let (server, ifindex) = (backend.server, backend.ifindex);
    let evidence = match facts.devices.get(&ifindex) {
        Some(other) => format!(
            "the device that its rules were made for is gone; ifindex {ifindex} is another one now, {}",
            other.name()
        ),
        None => format!("the device that its rules were made for, ifindex {ifindex}, is gone"),
    };
    Finding::problem("device", format!("server {server} by ifindex {ifindex}"))
        .consequence(
            "packets are not redirected to it: they go to another server of the rule, or pass",
        )
        .evidence(evidence)
        .remedy(remedies::renew(backend))
        .fix(Some(backend.refresh(Refreshed::Path)))
}
