//! Egress devices without a link.

use super::{Link, Setup};
use crate::model::{Finding, Fix, Remote};

pub fn check(setup: &Setup) -> Vec<Finding> {
    let down = |link: &&Link| !link.features.up;
    setup.egress().filter(down).map(finding).collect()
}

fn finding(link: &Link) -> Finding {
    let name = link.name();
    let lost = Finding::problem("link", name).consequence("what is redirected to it is lost");
    if !link.enabled {
        let here = Remote::here(link.features.ifindex, name);
        return lost
            .evidence("it is down")
            .mend(format!("`ip link set dev {name} up`"))
            .fix(Some(Fix::LinkUp(here)));
    }
    let peer = link.features.peer.as_ref().map(|peer| &peer.device);
    match (peer, &link.there) {
        (Some(peer), Some(there)) if !there.enabled => lost
            .evidence(format!("its peer {peer} is down"))
            .mend(format!("`ip link set dev {} up` there", peer.name()))
            .fix(Some(Fix::LinkUp(peer.clone()))),
        _ => lost
            .evidence("it is up, but has no link")
            .mend("start what reads from it, or plug in its cable"),
    }
}
