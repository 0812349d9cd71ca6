//! Interfaces that could run the program natively.

use super::mtu::set_mtu;
use super::remedies;
use crate::doctor::facts::{DeviceFacts, Facts, InterfaceFacts};
use crate::model::{ETHERNET_MTU, Finding, Mode, Remedy, Tool};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let skb = facts.live().filter(|i| i.mode == Mode::Skb);
    skb.filter_map(|i| finding(i, facts.devices.get(&i.ifindex)?))
        .collect()
}

/// As `attach` chooses: on veths, bridges and taps, generic is right.
fn finding(interface: &InterfaceFacts, device: &DeviceFacts) -> Option<Finding> {
    let driver_can = device.features.xdp.redirect == Some(true);
    if !driver_can || ["veth", "bridge", "tun"].iter().any(|kind| device.is(kind)) {
        return None;
    }
    let (name, mtu) = (&interface.name, device.features.mtu);
    let (evidence, remedy) = if device.features.offloads.lro == Some(true) {
        (
            "its driver runs XDP, but LRO is on".into(),
            Tool::new("ethtool -K").arg(name).words("lro off"),
        )
    } else if mtu > ETHERNET_MTU {
        (
            format!("its driver runs XDP, but perhaps not with an MTU of {mtu}"),
            set_mtu(name, ETHERNET_MTU),
        )
    } else {
        return None;
    };
    Some(
        Finding::warning("mode", name)
            .consequence("packets are redirected in skb mode, which is slower here")
            .evidence(evidence)
            .remedy(Remedy::from(remedy) + ", then " + remedies::reattach(&[name], None)),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attached, nic};
    use super::*;

    /// The evidence, for a NIC in a mode.
    fn found(mode: Mode, lro: bool, mtu: u32) -> Option<String> {
        let mut device = nic(1);
        device.features.offloads.lro = Some(lro);
        device.features.mtu = mtu;
        let interface = attached(&device, mode);
        let mut facts = Facts::default();
        facts.interfaces.push(interface);
        facts.devices.insert(1, device);
        check(&facts).pop().map(|finding| finding.evidence)
    }

    #[test]
    fn lro_or_a_large_mtu_is_named_where_skb_mode_is_second_best() {
        assert!(found(Mode::Skb, true, 1500).unwrap().contains("LRO is on"));
        assert!(found(Mode::Skb, false, 9000).unwrap().contains("9000"));
        assert_eq!(found(Mode::Skb, false, 1500), None);
        assert_eq!(found(Mode::Native, true, 9000), None);
    }
}
