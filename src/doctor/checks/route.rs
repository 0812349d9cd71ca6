//! Servers whose route has changed or is gone, where the rules found them by it.

use super::{mac, remedies};
use crate::doctor::facts::{BackendFacts, DeviceFacts, Moved};
use crate::model::{Finding, Refreshed, Remedy};

pub fn check(backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    other_device(backend, device).or_else(|| gone(backend))
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
    // An address of this host is another check's finding.
    (backend.has_lost_route() && !backend.whereabouts.is_own).then(|| {
        Finding::warning("route", format!("server {server}"))
            .consequence(remedies::LOST_IF_IT_MOVES)
            .evidence("its rules found it by the host's route to it, which is gone")
            .remedy(
                Remedy::from(format!("add a route to {server}, or "))
                    + remedies::add_with_another_locator(),
            )
    })
}
