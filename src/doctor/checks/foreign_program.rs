//! Other people's XDP programs behind egress devices, and below interfaces.

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::Finding;

pub fn check(_: &Facts, device: &DeviceFacts) -> Option<Finding> {
    let program = device.peer_facts.as_ref()?.program.as_ref()?;
    let peer = device.peer()?;
    Some(
        Finding::warning("foreign-program", device.name())
            .consequence(
                "another XDP program decides about what is redirected to it, and may drop it",
            )
            .evidence(format!("its peer {peer} runs {program}"))
            .remedy("if packets are missing, look at that program's own counters, or detach it"),
    )
}

/// A bridge gets what the programs at its ports leave.
pub fn interfaces(facts: &Facts) -> Vec<Finding> {
    let devices = facts.ingress().map(|(_, device)| device);
    devices.flat_map(below).collect()
}

fn below(device: &DeviceFacts) -> impl Iterator<Item = Finding> {
    let name = device.name();
    let finding = move |(port, program): &(String, String)| {
        Finding::warning("foreign-program", name)
            .consequence("another XDP program decides first about what arrives there")
            .evidence(format!("its port {port} runs {program}"))
            .remedy(format!(
                "if packets are missing, look at that program's own counters, or detach it while ours is off {name}"
            ))
    };
    device.foreign_below.iter().map(finding)
}
