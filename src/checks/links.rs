//! Egress devices without a link.

use super::{Link, Setup};
use crate::model::{Finding, Fix, Remote};

pub fn check(setup: &Setup) -> Vec<Finding> {
    let down = |link: &&Link| !link.features.up;
    setup.egress().filter(down).flat_map(findings).collect()
}

/// Of both ends, where both are down: either alone mends nothing.
fn findings(link: &Link) -> Vec<Finding> {
    let own = finding(link);
    let other = peer_down(link).filter(|_| !link.enabled);
    std::iter::once(own).chain(other).collect()
}

fn lost(link: &Link) -> Finding {
    Finding::problem("link", link.name()).consequence("what is redirected to it is lost")
}

fn peer_down(link: &Link) -> Option<Finding> {
    let peer = &link.features.peer.as_ref()?.device;
    let there = link.there.as_ref().filter(|there| !there.enabled);
    there.map(|_| {
        lost(link)
            .evidence(format!("its peer {peer} is down"))
            .mend(format!("`ip link set dev {} up` there", peer.name()))
            .fix(Some(Fix::LinkUp(peer.clone())))
    })
}

fn finding(link: &Link) -> Finding {
    let name = link.name();
    if !link.enabled {
        let here = Remote::here(link.features.ifindex, name);
        return lost(link)
            .evidence("it is down")
            .mend(format!("`ip link set dev {name} up`"))
            .fix(Some(Fix::LinkUp(here)));
    }
    peer_down(link).unwrap_or_else(|| {
        lost(link)
            .evidence("it is up, but has no link")
            .mend("start what reads from it, or plug in its cable")
    })
}
