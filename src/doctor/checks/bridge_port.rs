//! Servers that their bridge has seen behind another port than the egress device.

use super::mac;
use crate::doctor::facts::{BackendFacts, DeviceFacts, Moved};
use crate::model::{Finding, Refreshed};

pub fn check(backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    let Moved::Port(port) = backend.moved()? else {
        return None;
    };
    let mac = backend.mac;
    Some(
        mac::stale(backend, device, "bridge-port", Refreshed::Path)
            .consequence("packets leave by a device behind which the server is not")
            .evidence(format!(
                "the bridge has seen its MAC address {mac} behind {port}"
            )),
    )
}
