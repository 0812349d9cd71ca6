//! Servers whose route has changed or is gone, where the rules found them by it.

use super::{mac, remedies};
use crate::doctor::facts::{BackendFacts, DeviceFacts, Facts, Moved};
use crate::model::{Finding, Refreshed, Remedy};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let of = |(backend, device)| other_device(backend, device).or_else(|| gone(backend));
    facts.served().filter_map(of).collect()
}

fn other_device(backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    let Moved::Device(now) = backend.moved()? else {
        return None;
    };
    Some(
        mac::stale(backend, device, "route", Refreshed::Path)
            .consequence(
                "packets leave by a device that the host's route to the server no longer names",
            )
            .evidence(format!(
                "packets leave by {}, and the host's route to {} leaves by {now}",
                device.name(),
                backend.server
            )),
    )
}

/// Packets go where the server was; `rule list` says "no route".
fn gone(backend: &BackendFacts) -> Option<Finding> {
    let server = backend.server;
    let is_lost = backend.by_route && !backend.has_route && !backend.is_own;
    is_lost.then(|| {
        Finding::warning("route", format!("server {server}"))
            .consequence("once it moves, it can't be found again")
            .evidence("its rules found it by the host's route to it, which is gone")
            .remedy(
                Remedy::from(format!("add a route to {server}, or "))
                    + remedies::add_with_another_locator(),
            )
    })
}
