//! Interfaces that could run the program natively.

use super::{Ingress, Link, Setup};
use crate::model::{Finding, Mode};

/// Bytes; above it, a driver may refuse a native program.
const ETHERNET_MTU: u32 = 1500;

pub fn check(setup: &Setup) -> Vec<Finding> {
    let skb = setup.live().filter(|i| i.mode == Mode::Skb);
    skb.filter_map(|i| finding(i, setup.devices.get(&i.ifindex)?))
        .collect()
}

/// As `attach` chooses: on veths and bridges, generic is right.
fn finding(interface: &Ingress, link: &Link) -> Option<Finding> {
    let driver_can = link.features.xdp.redirect == Some(true);
    if !driver_can || link.is("veth") || link.is("bridge") {
        return None;
    }
    let (name, mtu) = (&interface.name, link.features.mtu);
    let (evidence, mend) = if link.features.offloads.lro == Some(true) {
        (
            "its driver runs XDP, but LRO is on".into(),
            format!("`ethtool -K {name} lro off`"),
        )
    } else if mtu > ETHERNET_MTU {
        (
            format!("its driver runs XDP, but perhaps not with an MTU of {mtu}"),
            format!("`ip link set dev {name} mtu {ETHERNET_MTU}`"),
        )
    } else {
        return None;
    };
    Some(
        Finding::warning("mode", name)
            .consequence("packets are redirected in skb mode, which is slower here")
            .evidence(evidence)
            .mend(format!(
                "{mend}, `xdpredir detach {name} --keep-rules`, then `xdpredir attach {name}`"
            )),
    )
}
