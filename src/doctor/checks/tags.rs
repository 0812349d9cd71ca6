//! Interfaces whose VLAN tags travel beside the frames, where rules for a VLAN don't see them.

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::Finding;

pub fn check(setup: &Facts) -> Vec<Finding> {
    let Some(vlan) = setup.matches().find_map(|matches| matches.vlan) else {
        return Vec::new();
    };
    // The rule may be meant for another interface, which shows it its packets.
    let all_hide = setup.ingress().all(|link| beside(link).is_some());
    let hidden = setup
        .ingress()
        .filter_map(|link| Some((link, beside(link)?)));
    hidden
        .map(|(link, (evidence, mend))| {
            let new = if all_hide {
                Finding::problem
            } else {
                Finding::warning
            };
            new("vlan-offload", link.name())
                .consequence(format!(
                    "what arrives there in VLAN {vlan} is matched as if it had no tag"
                ))
                .evidence(evidence)
                .mend(mend)
        })
        .collect()
}

/// Evidence and mend where XDP doesn't see the outer tag of what arrives, in either mode.
fn beside(link: &DeviceFacts) -> Option<(String, String)> {
    let name = link.name();
    match (&link.features.kind, &link.features.peer) {
        // Whether its own rxvlan is on changes nothing.
        (_, Some(peer)) => (link.there.as_ref()?.tx_vlan == Some(true)).then(|| {
            let peer = &peer.device;
            (
                format!("its peer {peer} sends tags beside the frames, txvlan is on"),
                peer.command(&format!("ethtool -K {} txvlan off", peer.name())),
            )
        }),
        // They get their frames from other devices, where the kernel has taken the tags off.
        (Some(kind), _) if kind == "bridge" || kind == "macvlan" => Some((
            format!("a {kind} gets tags beside the frames, whatever is switched off"),
            format!(
                "`xdpredir detach {name} --keep-rules`, then `xdpredir attach` the devices below it"
            ),
        )),
        (None, _) => (link.features.offloads.rx_vlan == Some(true)).then(|| {
            (
                "it takes tags off the frames, rxvlan is on".into(),
                format!("`ethtool -K {name} rxvlan off`"),
            )
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Facts;
    use super::super::testing::{attached, nic, rule};
    use super::*;
    use crate::model::{Mode, Proto, Rewrite, Severity, VlanId};

    /// NICs whose rxvlan is on or off, with a rule.
    fn found(vlan: u16, rx_vlan: &[bool]) -> Vec<Finding> {
        let mut setup = Facts::default();
        let mut rule = rule(Proto::Udp, 9, Rewrite::default());
        rule.matches.vlan = VlanId::new(vlan);
        setup.rules.push(rule);
        for (ifindex, &on) in (1..).zip(rx_vlan) {
            let mut link = nic(ifindex);
            link.features.offloads.rx_vlan = Some(on);
            setup.interfaces.push(attached(&link, Mode::Native));
            setup.devices.insert(ifindex, link);
        }
        check(&setup)
    }

    #[test]
    fn a_nic_that_takes_tags_off_is_named_where_a_rule_wants_them() {
        assert!(found(0, &[true]).is_empty());
        assert!(found(7, &[false]).is_empty());
        let all = found(7, &[true]);
        assert_eq!(all[0].severity, Severity::Problem);
        assert_eq!(all[0].mend, "`ethtool -K nic1 rxvlan off`");
    }

    #[test]
    fn where_another_interface_shows_them_it_is_a_warning() {
        let all = found(7, &[true, false]);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].severity, Severity::Warning);
    }
}
