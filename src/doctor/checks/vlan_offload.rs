//! Interfaces whose VLAN tags travel beside the frames, where rules for a VLAN don't see them.

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Finding, Remedy, Tool, Verb};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let Some(vlan) = facts.matches().find_map(|matches| matches.vlan) else {
        return Vec::new();
    };
    // The rule may be meant for another interface, which shows it its packets.
    let all_hide = facts.ingress().all(|device| beside(device).is_some());
    let hidden = facts
        .ingress()
        .filter_map(|device| Some((device, beside(device)?)));
    hidden
        .map(|(device, (evidence, remedy))| {
            let new = if all_hide {
                Finding::problem
            } else {
                Finding::warning
            };
            new("vlan-offload", device.name())
                .consequence(format!(
                    "what arrives there in VLAN {vlan} is matched as if it had no tag"
                ))
                .evidence(evidence)
                .remedy(remedy)
        })
        .collect()
}

/// Evidence and remedy where XDP doesn't see the outer tag of what arrives, in either mode.
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
            format!("a {kind} gets tags beside the frames, whatever is switched off"),
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
    use super::super::Facts;
    use super::super::testing::{attached, nic, rule};
    use super::*;
    use crate::model::{Mode, Proto, Rewrite, Severity, VlanId};

    /// NICs whose rxvlan is on or off, with a rule.
    fn found(vlan: u16, rx_vlan: &[bool]) -> Vec<Finding> {
        let mut facts = Facts::default();
        let mut rule = rule(Proto::Udp, 9, Rewrite::default());
        rule.matches.vlan = VlanId::new(vlan);
        facts.rules.push(rule);
        for (ifindex, &on) in (1..).zip(rx_vlan) {
            let mut device = nic(ifindex);
            device.features.offloads.rx_vlan = Some(on);
            facts.interfaces.push(attached(&device, Mode::Native));
            facts.devices.insert(ifindex, device);
        }
        check(&facts)
    }

    #[test]
    fn a_nic_that_takes_tags_off_is_named_where_a_rule_wants_them() {
        assert!(found(0, &[true]).is_empty());
        assert!(found(7, &[false]).is_empty());
        let all = found(7, &[true]);
        assert_eq!(all[0].severity, Severity::Problem);
        assert_eq!(all[0].remedy, ethtool("nic1", "rxvlan off").into());
    }

    #[test]
    fn where_another_interface_shows_them_it_is_a_warning() {
        let all = found(7, &[true, false]);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].severity, Severity::Warning);
    }
}
