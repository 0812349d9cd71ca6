//! Egress devices whose MTU is smaller than that of the interfaces.

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Finding, Remedy, Tool};

/// The program lets pass what the egress device can't send.
pub fn check(facts: &Facts, egress: &DeviceFacts) -> Option<Finding> {
    let index = egress.features.ifindex;
    let ingress = facts.redirecting_to(index);
    let ingress = ingress.filter_map(|interface| facts.devices.get(&interface.ifindex));
    // lo has an MTU like no other device's, and no address.
    let with_mac = ingress.filter(|device| device.features.mac.is_some_and(|mac| mac.is_unicast()));
    let ingress = with_mac.max_by_key(|device| device.features.mtu)?;
    let (name, mtu) = (egress.name(), egress.features.mtu);
    let (from, longest) = (ingress.name(), ingress.features.mtu);
    let fate = match facts.has_backend_by(index) {
        true => "are not redirected, and pass",
        false => "are not forwarded, and are dropped",
    };
    (mtu < longest).then(|| {
        Finding::problem("mtu", name)
            .consequence(format!("packets longer than {mtu} bytes {fate}"))
            .evidence(format!("its MTU is {mtu}, that of {from} {longest}"))
            .remedy(
                Remedy::from(set_mtu(name, longest))
                    + format!(" and the same beyond it, or a lower MTU at {from} and its senders"),
            )
    })
}

pub fn set_mtu(device: &str, mtu: u32) -> Tool {
    let tool = Tool::new("ip link set dev").arg(device).words("mtu");
    tool.arg(mtu.to_string())
}
