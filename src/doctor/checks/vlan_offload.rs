//! Interfaces whose VLAN tags travel beside the frames, where rules for a VLAN don't see them.

use crate::doctor::facts::{DeviceFacts, Facts, InterfaceFacts};
use crate::model::{Finding, Mode, Remedy, Tool, Verb};

pub fn check(facts: &Facts, interface: &InterfaceFacts, device: &DeviceFacts) -> Option<Finding> {
    if interface.mode == Mode::Tc {
        return None; // which sees such tags
    }
    let vlan = facts.matches().find_map(|matches| matches.vlan)?;
    let (evidence, remedy) = beside(device)?;
    // The rule may be meant for another interface, which shows it its packets.
    let hides = |i: &InterfaceFacts, device| i.mode != Mode::Tc && beside(device).is_some();
    let all_hide = facts.ingress().all(|(i, device)| hides(i, device));
    let new = match all_hide {
        true => Finding::problem,
        false => Finding::warning,
    };
    Some(
        new("vlan-offload", device.name())
            .consequence(format!(
                "what arrives there in VLAN {vlan} is matched as if it had no tag"
            ))
            .evidence(evidence)
            .remedy(remedy),
    )
}

/// Evidence and remedy where XDP doesn't see the outer tag of what arrives, in either of its modes.
fn beside(device: &DeviceFacts) -> Option<(String, Remedy)> {
    let name = device.name();
    match (&device.features.kind, &device.features.peer) {
        // Whether its own rxvlan is on changes nothing.
        (_, Some(peer)) => (device.peer_facts.as_ref()?.tx_vlan == Some(true)).then(|| {
            let peer = &peer.device;
            (
                format!("its peer {peer} sends tags beside the frames, txvlan is on"),
                ethtool(&peer.name(), "txvlan off").beside(peer),
            )
        }),
        // They get their frames from other devices, where the kernel has taken the tags off.
        (Some(kind), _) if kind == "bridge" || kind == "macvlan" => Some((
            format!("a {kind} never shows tags to XDP; no offload setting changes that"),
            Remedy::from(Verb::Detach(vec![name.into()])) + ", then attach to the devices below it",
        )),
        (None, _) => (device.features.offloads.rx_vlan == Some(true)).then(|| {
            (
                "it takes tags off the frames, rxvlan is on".into(),
                ethtool(name, "rxvlan off").into(),
            )
        }),
        _ => None,
    }
}

fn ethtool(device: &str, words: &str) -> Tool {
    Tool::new("ethtool -K").arg(device).words(words)
}

#[cfg(test)]
mod tests {
    use super::super::{Check, testing};
    use super::*;
    use crate::model::{Severity, VlanId};

    #[test]
    fn a_nic_that_takes_tags_off_is_a_problem_where_no_other_shows_them() {
        // The rule's VLAN, whether each NIC's rxvlan is on, and what is found.
        let cases: [(_, &[bool], _); 4] = [
            (0, &[true], None),
            (7, &[false], None),
            (7, &[true], Some(Severity::Problem)),
            (7, &[true, false], Some(Severity::Warning)),
        ];
        for (vlan, rx_vlan, severity) in cases {
            let mut facts = testing::with_rule(Facts::default());
            facts.rules[0].matches.vlan = VlanId::new(vlan);
            for (ifindex, &on) in (1..).zip(rx_vlan) {
                let mut nic = testing::nic(ifindex);
                nic.features.offloads.rx_vlan = Some(on);
                testing::attach(&mut facts, nic, Mode::Native);
            }
            let found = Check::Interface(check).run(&facts);
            let severities: Vec<_> = found.iter().map(|finding| finding.severity).collect();
            assert_eq!(severities, Vec::from_iter(severity), "{vlan} {rx_vlan:?}");
            for finding in found {
                assert_eq!(finding.remedy, ethtool("nic1", "rxvlan off").into());
            }
        }
    }
}
