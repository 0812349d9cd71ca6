//! Devices without a link.

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Finding, Fix, Remote, Severity, Tool};

/// Of egress devices.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let devices = facts.egress();
    let findings = devices.flat_map(of_both_ends);
    findings
        .map(|finding| finding.consequence("what is redirected to it is lost"))
        .collect()
}

/// Of interfaces that are not egress devices, too. One that nobody has taken down may just be idle.
pub fn interfaces(facts: &Facts) -> Vec<Finding> {
    let devices = facts.ingress().map(|(_, device)| device);
    let findings = devices
        .filter(|device| !facts.is_egress(device.features.ifindex))
        .flat_map(of_both_ends);
    let idle_is_no_problem = |mut finding: Finding| {
        if finding.fix.is_none() {
            finding.severity = Severity::Warning;
        }
        finding.consequence("nothing arrives there")
    };
    findings.map(idle_is_no_problem).collect()
}

/// Where both ends are down, setting one up is not enough.
fn of_both_ends(device: &DeviceFacts) -> impl Iterator<Item = Finding> {
    let other = of_peer(device).filter(|_| !device.enabled);
    finding(device).into_iter().chain(other)
}

/// Of the end that is to be set up first.
pub fn finding(device: &DeviceFacts) -> Option<Finding> {
    let name = device.name();
    let lost = Finding::problem("link", name);
    if device.features.up {
        return None;
    }
    if !device.enabled {
        let here = Remote::here(device.features.ifindex, name);
        return Some(set_up(lost.evidence("it is down"), &here));
    }
    of_peer(device).or_else(|| {
        let (evidence, remedy) = if device.is("bridge") {
            ("none of its ports has a link", "set one up, or add one")
        } else {
            let remedy = "start what reads from it, or plug in its cable";
            ("it is up, but has no link", remedy)
        };
        Some(lost.evidence(evidence).remedy(remedy))
    })
}

fn of_peer(device: &DeviceFacts) -> Option<Finding> {
    let peer = device.peer()?;
    let is_down = !device.peer_facts.as_ref()?.enabled;
    let lost = || Finding::problem("link", device.name());
    is_down.then(|| set_up(lost().evidence(format!("its peer {peer} is down")), peer))
}

fn set_up(finding: Finding, device: &Remote) -> Finding {
    let up = Tool::new("ip link set dev").arg(device.name()).words("up");
    finding
        .remedy(up.beside(device))
        .fix(Some(Fix::LinkUp(device.clone())))
}
