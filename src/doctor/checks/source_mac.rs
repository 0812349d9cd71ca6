//! Egress devices whose own MAC address is no longer the one that the rules have.

use super::mac;
use crate::doctor::facts::{BackendFacts, DeviceFacts};
use crate::model::{Finding, Refreshed};

pub fn check(backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    let (name, own, ours) = (device.name(), device.features.mac?, backend.source_mac);
    (own != ours).then(|| {
        mac::stale(backend, device, "source-mac", Refreshed::Mac(backend.mac))
            .consequence("packets leave with a source MAC address that is not the egress device's")
            .evidence(format!("the rule has {ours}, {name} has {own}"))
    })
}
