//! Egress devices that complete checksums, or don't, unlike what the rules remember.

use super::mac;
use crate::doctor::facts::{BackendFacts, DeviceFacts, Facts};
use crate::model::{Finding, Mode, Refreshed};

/// Natively, the program completes all itself.
pub fn check(facts: &Facts) -> Vec<Finding> {
    if facts.live().all(|interface| interface.mode == Mode::Native) {
        return Vec::new();
    }
    let stale = |(backend, device): &(&BackendFacts, &DeviceFacts)| {
        backend.completes_checksum != device.completes_checksum
    };
    let stale = facts.served().filter(stale);
    stale
        .map(|(backend, device)| finding(backend, device))
        .collect()
}

fn finding(backend: &BackendFacts, device: &DeviceFacts) -> Finding {
    let name = device.name();
    let now = if device.completes_checksum {
        "on"
    } else {
        "off"
    };
    mac::stale(backend, device, "checksum", Refreshed::Mac(backend.mac))
        .consequence("packets of local senders may arrive with checksums that are refused")
        .evidence(format!(
            "tx-checksum of {name} is {now} now, and was not when the rule was made"
        ))
}
