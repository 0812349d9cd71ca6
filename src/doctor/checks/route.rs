//! Servers that the host has no route to any more.

use crate::doctor::facts::{BackendFacts, Facts};
use crate::model::Finding;

pub fn check(setup: &Facts) -> Vec<Finding> {
    let served = setup.served().map(|(target, _)| target);
    let lost = served.filter(|target| target.by_route && !target.has_route && !target.is_own);
    lost.map(finding).collect()
}

/// Packets go where it was; `rule list` says "no route".
fn finding(target: &BackendFacts) -> Finding {
    let server = target.server;
    Finding::warning("route", format!("server {server}"))
        .consequence("once it moves, it can't be found again")
        .evidence("its rules found it by the host's route to it, which is gone")
        .mend(format!(
            "add a route to {server}, or `rule add` it with what finds it otherwise"
        ))
}
