//! Interfaces that could run the program natively.

use super::remedies;
use crate::doctor::facts::{DeviceFacts, Facts, InterfaceFacts};
use crate::model::{ETHERNET_MTU, Finding, Mode};

pub fn check(setup: &Facts) -> Vec<Finding> {
    let skb = setup.live().filter(|i| i.mode == Mode::Skb);
    skb.filter_map(|i| finding(i, setup.devices.get(&i.ifindex)?))
        .collect()
}

/// As `attach` chooses: on veths, bridges and taps, generic is right.
fn finding(interface: &InterfaceFacts, link: &DeviceFacts) -> Option<Finding> {
    let driver_can = link.features.xdp.redirect == Some(true);
    if !driver_can || ["veth", "bridge", "tun"].iter().any(|kind| link.is(kind)) {
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
            .mend(format!("{mend}, then {}", remedies::reattach(name, ""))),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attached, nic};
    use super::*;

    /// The evidence, for a NIC in a mode.
    fn found(mode: Mode, lro: bool, mtu: u32) -> Option<String> {
        let mut link = nic(1);
        link.features.offloads.lro = Some(lro);
        link.features.mtu = mtu;
        let interface = attached(&link, mode);
        let mut setup = Facts::default();
        setup.interfaces.push(interface);
        setup.devices.insert(1, link);
        check(&setup).pop().map(|finding| finding.evidence)
    }

    #[test]
    fn lro_or_a_large_mtu_is_named_where_skb_mode_is_second_best() {
        assert!(found(Mode::Skb, true, 1500).unwrap().contains("LRO is on"));
        assert!(found(Mode::Skb, false, 9000).unwrap().contains("9000"));
        assert_eq!(found(Mode::Skb, false, 1500), None);
        assert_eq!(found(Mode::Native, true, 9000), None);
    }
}
