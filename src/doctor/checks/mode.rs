//! Interfaces that could run the program natively.

use super::mtu::set_mtu;
use super::remedies;
use crate::doctor::facts::{DeviceFacts, Facts, InterfaceFacts};
use crate::model::{ETHERNET_MTU, Finding, Mode, Remedy, Tool};

/// As `attach` chooses: on veths, bridges and taps, generic is right.
pub fn check(facts: &Facts, interface: &InterfaceFacts, device: &DeviceFacts) -> Option<Finding> {
    let driver_can = device.features.xdp.redirect == Some(true);
    let is_generic = interface.mode == Mode::Skb;
    if !is_generic || !driver_can || ["veth", "bridge", "tun"].iter().any(|kind| device.is(kind)) {
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
            .remedy(Remedy::from(remedy) + ", then " + remedies::reattach(facts, &[name], None)),
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Check, testing};
    use super::*;

    #[test]
    fn lro_or_a_large_mtu_is_named_where_skb_mode_is_second_best() {
        let evidence = |mode, lro, mtu| {
            let mut device = testing::nic(1);
            device.features.offloads.lro = Some(lro);
            device.features.mtu = mtu;
            let found = Check::Interface(check).run(&testing::attached_to(device, mode));
            found.first().map(|finding| finding.evidence.clone())
        };
        assert!(
            evidence(Mode::Skb, true, 1500)
                .unwrap()
                .contains("LRO is on")
        );
        assert!(evidence(Mode::Skb, false, 9000).unwrap().contains("9000"));
        assert_eq!(evidence(Mode::Skb, false, 1500), None);
        assert_eq!(evidence(Mode::Native, true, 9000), None);
    }
}
