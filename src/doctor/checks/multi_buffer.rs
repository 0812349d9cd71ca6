//! Egress devices that take frames from native programs, but none in several buffers.

use super::remedies;
use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Finding, Mode};

pub fn check(facts: &Facts, device: &DeviceFacts) -> Option<Finding> {
    let mut from = facts.redirecting_to(device.features.ifindex);
    let from = &from.find(|i| i.mode == Mode::Native && i.frags)?.name;
    let xdp = &device.features.xdp;
    let one_alone = xdp.redirect_target == Some(true) && xdp.multi_buffer_tx == Some(false);
    one_alone.then(|| {
        Finding::problem("multi-buffer", device.name())
            .consequence(format!(
                "long frames that {from} redirects to it in native mode are lost"
            ))
            .evidence("such frames lie in several buffers, and it takes no frames in several buffers (NDO_XMIT_SG)")
            .remedy(
                remedies::reattach(facts, &[from], Some(Mode::Skb))
                    + format!(", or give {from} an MTU whose frames fit one buffer"),
            )
    })
}
