//! Devices without a link.

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Backend, Finding, Fix, Remote, Rule, Severity, Tool};

/// Of egress devices.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let of = |device| {
        let consequence = match is_skipped(facts, device) {
            true => "new flows go to other backends, and what is still redirected to it is lost",
            false => "what is redirected to it is lost",
        };
        of_both_ends(device).map(move |finding| finding.consequence(consequence))
    };
    facts.egress().flat_map(of).collect()
}

/// Whether whatever sends packets to a device has a backend behind another one, which has a link.
fn is_skipped(facts: &Facts, device: &DeviceFacts) -> bool {
    let ifindex = device.features.ifindex;
    let serves = |backend: &Backend| {
        let device = facts.serving(backend.ifindex);
        backend.takes_flows() && device.is_some_and(|device| device.features.up)
    };
    let mut rules = facts.rules.iter();
    let has_others = |rule: &Rule| {
        let mut backends = rule.backends.iter();
        !backends.clone().any(|backend| backend.ifindex == ifindex) || backends.any(serves)
    };
    facts.live().all(|i| i.sees_links) && !facts.is_forwarded_to(ifindex) && rules.all(has_others)
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
