//! Egress devices whose own MAC address is no longer the one that the rules have.

use super::mac;
use crate::doctor::facts::{BackendFacts, DeviceFacts, Facts};
use crate::model::{Finding, Refreshed};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let of = |(backend, device)| finding(backend, device);
    facts.served().filter_map(of).collect()
}

fn finding(backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    let own = device.features.mac?;
    (own != backend.source_mac).then(|| {
        mac::stale(backend, device, "source-mac", Refreshed::Mac(backend.mac))
            .consequence("packets have a source MAC address that their sender does not have")
            .evidence(format!(
                "the rule has {}, {} has {own}",
                backend.source_mac,
                device.name(),
            ))
    })
}
