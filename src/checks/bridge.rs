//! Bridges, which the program doesn't see into.

use super::{Link, Setup};
use crate::model::Finding;

pub fn check(setup: &Setup) -> Vec<Finding> {
    let bridges = setup
        .live()
        .filter_map(|interface| setup.devices.get(&interface.ifindex))
        .filter(|link| link.is("bridge") && !link.promiscuous);
    bridges
        .filter_map(|bridge| finding(setup, bridge))
        .collect()
}

/// Where a server is behind one of its ports, so can be its clients.
fn finding(setup: &Setup, bridge: &Link) -> Option<Finding> {
    let is_port = |link: &&Link| {
        let master = link.features.master.as_ref();
        master.is_some_and(|master| master.ifindex == bridge.features.ifindex)
    };
    let (name, port) = (bridge.name(), setup.egress().find(is_port)?.name());
    Some(
        Finding::warning("bridge", name)
            .consequence("what its ports send to one another is not redirected")
            .evidence(format!(
                "it hands up only what is sent to itself, and {port}, which leads to a server, is one of its ports"
            ))
            .mend(format!(
                "`xdpredir detach {name} --keep-rules`, then `xdpredir attach` the clients' own ports"
            )),
    )
}
