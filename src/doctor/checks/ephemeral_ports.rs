//! Rules that take the replies to requests of this host: for ports that it sends from, whatever the
//! destination.

use crate::doctor::facts::{DeviceFacts, Facts, InterfaceFacts};
use crate::model::{ActionKind, EphemeralPorts, Finding, Match, Ports, Proto, Remedy, Rule, Tool};

/// A host that has no address there gets no replies there.
pub fn check(facts: &Facts, interface: &InterfaceFacts, _: &DeviceFacts) -> Option<Finding> {
    let own = &facts.ephemeral_ports;
    let takes = |rule: &&Rule| takes_replies(rule, interface, own);
    let rules: Vec<&Match> = facts
        .rules
        .iter()
        .filter(takes)
        .map(|rule| &rule.matches)
        .collect();
    let first = facts.text(rules.first()?);
    let (from, to) = (own.first, own.last);
    let have = match rules.len() - 1 {
        0 => "has no destination".to_string(),
        1 => "and 1 other have no destination".to_string(),
        others => format!("and {others} others have no destination"),
    };
    Some(
        Finding::warning("ephemeral-ports", &interface.name)
            .consequence("replies to requests of this host may be taken for packets of a rule")
            .evidence(format!(
                "rule {first} {have}, and this host sends from ports {from} to {to}"
            ))
            .remedy(remedy(own, &rules)),
    )
}

fn takes_replies(rule: &Rule, interface: &InterfaceFacts, own: &EphemeralPorts) -> bool {
    let Match {
        dst,
        proto,
        ports,
        vlan,
        inner_vlan,
        ingress,
        ..
    } = rule.matches;
    let arrives = ingress.is_none_or(|ifindex| ifindex == interface.ifindex);
    let mut addresses = interface.addresses.iter();
    arrives
        && rule.action.kind() != ActionKind::Pass
        && dst.prefix_len() == 0
        && addresses.any(|address| address.is_ipv4() == dst.addr().is_ipv4())
        && vlan.or(inner_vlan).is_none()
        && proto != Proto::Icmp
        && !own.among(ports).is_empty()
}

/// The kernel takes a few ports out of its own, but not all.
fn remedy(own: &EphemeralPorts, rules: &[&Match]) -> Remedy {
    const FEW: usize = 8;
    let destination = Remedy::from("give the rule the destination that its clients ask");
    let ports: Vec<Ports> = rules
        .iter()
        .take(FEW + 1)
        .map(|matches| matches.ports)
        .collect();
    let mut reserved: Vec<(u16, u16)> = ports.iter().flat_map(|ports| own.among(*ports)).collect();
    reserved.sort_unstable();
    reserved.dedup();
    let count: u32 = reserved
        .iter()
        .map(|(first, last)| u32::from(last - first) + 1)
        .sum();
    if ports.len() > FEW || count > u32::from(own.last - own.first) / 2 {
        return destination;
    }
    // The setting is replaced, not added to.
    let all = own.reserved.iter().chain(&reserved);
    let all: Vec<String> = all
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    let setting = format!("net.ipv4.ip_local_reserved_ports={}", all.join(","));
    destination
        + ", or keep this host from sending from its port: "
        + Tool::new("sysctl -w").arg(setting)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attached_to, nic};
    use super::*;
    use crate::model::{Action, Mode, VlanId};

    fn found(change: impl Fn(&mut Rule)) -> Option<Finding> {
        let mut facts = attached_to(nic(1), Mode::Skb);
        facts.interfaces[0].addresses = vec![[192, 168, 122, 1].into()];
        facts.ephemeral_ports = EphemeralPorts {
            first: 32768,
            last: 60999,
            reserved: vec![(50000, 50009)],
        };
        let mut rule = Rule::new(Match::example(40000));
        change(&mut rule);
        facts.rules.push(rule);
        check(&facts, &facts.interfaces[0], &facts.devices[&1])
    }

    fn remedy_of(change: impl Fn(&mut Rule)) -> Option<Remedy> {
        found(change).map(|finding| finding.remedy)
    }

    fn is_found(change: impl Fn(&mut Rule)) -> bool {
        found(change).is_some()
    }

    fn ports(text: &str) -> impl Fn(&mut Rule) {
        move |rule: &mut Rule| rule.matches.ports = text.parse().expect("ports")
    }

    #[test]
    fn a_rule_that_cannot_take_replies_of_this_host_is_no_finding() {
        assert!(is_found(|_| ()));
        assert!(is_found(ports("1-65535")) && is_found(ports("any")));
        for text in ["7999", "50000", "50000-50009", "61000-65535"] {
            assert!(!is_found(ports(text)), "{text}");
        }
        assert!(!is_found(
            |rule| rule.matches.dst = "10.0.0.0/8".parse().expect("a prefix")
        ));
        assert!(!is_found(|rule| rule.matches.vlan = VlanId::new(5)));
        assert!(!is_found(|rule| rule.matches.ingress = Some(2)));
        assert!(is_found(|rule| rule.matches.ingress = Some(1)));
        assert!(!is_found(|rule| rule.matches.proto = Proto::Icmp));
        assert!(is_found(|rule| rule.action = Action::Drop));
        assert!(!is_found(|rule| rule.action = Action::Pass));
        assert!(!is_found(|rule| rule.matches = Match {
            ports: rule.matches.ports,
            proto: Proto::Udp,
            ..Match::any_like([0u16; 8].into())
        }));
    }

    #[test]
    fn a_rule_for_one_interface_is_named_by_the_name_of_that_interface() {
        let finding = found(|rule| rule.matches.ingress = Some(1)).expect("a finding");
        let named = "rule src 0.0.0.0/0 udp port 40000 in nic1 has no destination";
        assert!(finding.evidence.starts_with(named), "{finding:?}");
    }

    #[test]
    fn a_few_ports_can_be_reserved_beside_those_that_are() {
        let reserve = |text: &str| remedy_of(ports(text)).expect("a finding").0.len() > 1;
        assert!(reserve("40000-40010") && !reserve("any"));
        let remedy = remedy_of(ports("49999-50010")).expect("a finding");
        let setting = "net.ipv4.ip_local_reserved_ports=50000-50009,49999,50010";
        let last = Remedy::from(Tool::new("sysctl -w").arg(setting));
        assert_eq!(remedy.0.last(), last.0.last());
    }
}
