//! Egress devices whose peer has a smaller MTU than they have.

use super::mtu::set_mtu;
use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::Finding;

pub fn check(_: &Facts, egress: &DeviceFacts) -> Option<Finding> {
    let peer = egress.features.peer.as_ref()?;
    let (mtu, there) = (egress.features.mtu, peer.mtu?);
    (there < mtu).then(|| {
        Finding::problem("peer-mtu", egress.name())
            .consequence(format!("packets longer than {there} bytes are lost"))
            .evidence(format!(
                "its MTU is {mtu}, that of its peer {} {there}",
                peer.device
            ))
            .remedy(set_mtu(&peer.device.name(), mtu).beside(&peer.device))
    })
}
