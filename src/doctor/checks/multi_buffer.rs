//! Egress devices that take frames from native programs, but none in several buffers.

use super::remedies;
use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Finding, Mode};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let from = facts.native().find(|interface| interface.frags);
    let one_alone = |device: &&DeviceFacts| {
        let xdp = &device.features.xdp;
        xdp.redirect_target == Some(true) && xdp.multi_buffer_tx == Some(false)
    };
    let devices = facts.egress().filter(one_alone);
    let finding = |device: &DeviceFacts| {
        let from = from?.name.as_str();
        Some( Finding::problem("multi-buffer", device.name())
            .consequence(format!(
                "long frames that {from} redirects to it in native mode are lost"
            ))
            .evidence("such frames lie in several buffers, and it takes no frames in several buffers (NDO_XMIT_SG)")
            .remedy(
                remedies::reattach(&[from], Some(Mode::Skb))
                    + format!(", or give {from} an MTU whose frames fit one buffer"),
            ))
    };
    devices.filter_map(finding).collect()
}
