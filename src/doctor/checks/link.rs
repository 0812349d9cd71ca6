//! Devices without a link.

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Finding, Fix, Remote, Severity};

/// What is lost with the link of an egress device, and of an interface.
const NOTHING_LEAVES: &str = "what is redirected to it is lost";
const NOTHING_ARRIVES: &str = "nothing arrives there";

/// Of egress devices.
pub fn check(setup: &Facts) -> Vec<Finding> {
    let down = setup.egress().filter(|link| !link.features.up);
    down.flat_map(|link| findings(link, NOTHING_LEAVES))
        .collect()
}

/// Of interfaces that are not egress devices, too. One that nobody has taken down may just be idle.
pub fn interfaces(setup: &Facts) -> Vec<Finding> {
    let links = setup.ingress().filter(|link| !link.features.up);
    let idle_is_no_problem = |mut finding: Finding| {
        if finding.fix.is_none() {
            finding.severity = Severity::Warning;
        }
        finding
    };
    links
        .filter(|link| !setup.is_egress(link.features.ifindex))
        .flat_map(|link| findings(link, NOTHING_ARRIVES))
        .map(idle_is_no_problem)
        .collect()
}

/// Of both ends, where both are down: either alone mends nothing.
fn findings(link: &DeviceFacts, consequence: &str) -> Vec<Finding> {
    let own = finding(link);
    let other = peer_down(link).filter(|_| !link.enabled);
    std::iter::once(own)
        .chain(other)
        .map(|finding| finding.consequence(consequence))
        .collect()
}

fn lost(link: &DeviceFacts) -> Finding {
    Finding::problem("link", link.name())
}

fn peer_down(link: &DeviceFacts) -> Option<Finding> {
    let peer = &link.features.peer.as_ref()?.device;
    let there = link.there.as_ref().filter(|there| !there.enabled);
    there.map(|_| {
        lost(link)
            .evidence(format!("its peer {peer} is down"))
            .mend(peer.command(&format!("ip link set dev {} up", peer.name())))
            .fix(Some(Fix::LinkUp(peer.clone())))
    })
}

fn finding(link: &DeviceFacts) -> Finding {
    let name = link.name();
    if !link.enabled {
        let here = Remote::here(link.features.ifindex, name);
        return lost(link)
            .evidence("it is down")
            .mend(format!("`ip link set dev {name} up`"))
            .fix(Some(Fix::LinkUp(here)));
    }
    peer_down(link).unwrap_or_else(|| {
        let (evidence, mend) = if link.is("bridge") {
            ("none of its ports has a link", "set one up, or add one")
        } else {
            let mend = "start what reads from it, or plug in its cable";
            ("it is up, but has no link", mend)
        };
        lost(link).evidence(evidence).mend(mend)
    })
}
