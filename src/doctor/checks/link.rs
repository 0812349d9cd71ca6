//! Devices without a link.

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Finding, Fix, Remote, Severity, Tool};

/// What is lost with the link of an egress device, and of an interface.
const NOTHING_LEAVES: &str = "what is redirected to it is lost";
const NOTHING_ARRIVES: &str = "nothing arrives there";

/// Of egress devices.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let down = facts.egress().filter(|device| !device.features.up);
    down.flat_map(|device| findings(device, NOTHING_LEAVES))
        .collect()
}

/// Of interfaces that are not egress devices, too. One that nobody has taken down may just be idle.
pub fn interfaces(facts: &Facts) -> Vec<Finding> {
    let devices = facts.ingress().filter(|device| !device.features.up);
    let idle_is_no_problem = |mut finding: Finding| {
        if finding.fix.is_none() {
            finding.severity = Severity::Warning;
        }
        finding
    };
    devices
        .filter(|device| !facts.is_egress(device.features.ifindex))
        .flat_map(|device| findings(device, NOTHING_ARRIVES))
        .map(idle_is_no_problem)
        .collect()
}

/// Of both ends, where both are down: setting one up is not enough.
fn findings(device: &DeviceFacts, consequence: &str) -> Vec<Finding> {
    let own = finding(device);
    let other = peer_down(device).filter(|_| !device.enabled);
    std::iter::once(own)
        .chain(other)
        .map(|finding| finding.consequence(consequence))
        .collect()
}

fn lost(device: &DeviceFacts) -> Finding {
    Finding::problem("link", device.name())
}

fn up(name: &str) -> Tool {
    Tool::new("ip link set dev").arg(name).words("up")
}

fn peer_down(device: &DeviceFacts) -> Option<Finding> {
    let peer = &device.features.peer.as_ref()?.device;
    let there = device.peer_facts.as_ref().filter(|there| !there.enabled);
    there.map(|_| {
        lost(device)
            .evidence(format!("its peer {peer} is down"))
            .remedy(up(&peer.name()).beside(peer))
            .fix(Some(Fix::LinkUp(peer.clone())))
    })
}

fn finding(device: &DeviceFacts) -> Finding {
    let name = device.name();
    if !device.enabled {
        let here = Remote::here(device.features.ifindex, name);
        return lost(device)
            .evidence("it is down")
            .remedy(up(name))
            .fix(Some(Fix::LinkUp(here)));
    }
    peer_down(device).unwrap_or_else(|| {
        let (evidence, remedy) = if device.is("bridge") {
            ("none of its ports has a link", "set one up, or add one")
        } else {
            let remedy = "start what reads from it, or plug in its cable";
            ("it is up, but has no link", remedy)
        };
        lost(device).evidence(evidence).remedy(remedy)
    })
}
