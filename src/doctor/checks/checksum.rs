//! Egress devices that complete checksums, or don't, unlike what the rules remember.

use super::mac;
use crate::doctor::facts::{BackendFacts, DeviceFacts, Facts};
use crate::model::{Finding, Mode, Refreshed};

pub fn check(facts: &Facts) -> Vec<Finding> {
    // Natively, the program completes all itself, and at the tc hook the kernel does.
    if facts.live().all(|interface| interface.mode != Mode::Skb) {
        return Vec::new();
    }
    let served = facts.served();
    served
        .filter_map(|(backend, device)| finding(backend, device))
        .collect()
}

fn finding(backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    let (name, completes) = (device.name(), device.completes_checksum);
    let now = if completes { "on" } else { "off" };
    (completes != backend.completes_checksum).then(|| {
        mac::stale(backend, device, "checksum", Refreshed::Mac(backend.mac))
            .consequence("packets of local senders may arrive with checksums that are refused")
            .evidence(format!(
                "tx-checksum of {name} is {now} now, and was not when the rule was made"
            ))
    })
}
