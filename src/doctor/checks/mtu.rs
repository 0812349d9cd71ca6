//! Frames that are too long on the way.

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::Finding;

pub fn check(setup: &Facts) -> Vec<Finding> {
    setup
        .egress()
        .flat_map(|link| [below_ingress(setup, link), peer_below(link)])
        .flatten()
        .collect()
}

/// The program lets pass what the egress device can't send.
fn below_ingress(setup: &Facts, egress: &DeviceFacts) -> Option<Finding> {
    let ingress = setup
        .ingress()
        // lo has an MTU like no other device's, and no address.
        .filter(|link| link.features.mac.is_some_and(|mac| mac.is_unicast()))
        .max_by_key(|link| link.features.mtu)?;
    let (name, mtu) = (egress.name(), egress.features.mtu);
    let (from, longest) = (ingress.name(), ingress.features.mtu);
    (mtu < longest).then(|| {
        Finding::problem("mtu", name)
            .consequence(format!("packets longer than {mtu} bytes are not redirected, and pass"))
            .evidence(format!("its MTU is {mtu}, that of {from} {longest}"))
            .mend(format!(
                "`ip link set dev {name} mtu {longest}` and the same beyond it, or a lower MTU at {from} and its senders"
            ))
    })
}

fn peer_below(egress: &DeviceFacts) -> Option<Finding> {
    let peer = egress.features.peer.as_ref()?;
    let (mtu, there) = (egress.features.mtu, peer.mtu?);
    (there < mtu).then(|| {
        Finding::problem("peer-mtu", egress.name())
            .consequence(format!("packets longer than {there} bytes are lost"))
            .evidence(format!(
                "its MTU is {mtu}, that of its peer {} {there}",
                peer.device
            ))
            .mend(
                peer.device
                    .command(&format!("ip link set dev {} mtu {mtu}", peer.device.name())),
            )
    })
}
