//! The range of source ports that connections get: it is full, or this host's own connections have ports of it.

use crate::doctor::facts::{DeviceFacts, Facts, InterfaceFacts};
use crate::model::{Command, Finding, Remedy, Reply, Rule, SourcePorts, Tool, Verb};

/// Packets that found the range full.
pub fn check(facts: &Facts, interface: &InterfaceFacts, _: &DeviceFacts) -> Option<Finding> {
    let outcomes = facts.outcomes.get(&interface.ifindex)?;
    let packets = match outcomes.packets("no_source_port") {
        0 => return None,
        1 => "1 packet of a new connection was".into(),
        packets => format!("{packets} packets of new connections were"),
    };
    let range = facts.source_ports?;
    let wider = match range.count() < SourcePorts::DEFAULT.count() {
        true => Remedy::from(Verb::SourcePorts(
            interface.name.clone(),
            SourcePorts::DEFAULT,
        )),
        false => Remedy::from(Command::Name("attach")) + " with a wider range of source ports",
    };
    Some(
        Finding::warning("source-ports", &interface.name)
            .consequence(format!("{packets} dropped there since it was attached"))
            .evidence(format!(
                "each source port from {range} had a connection to their backend already"
            ))
            .remedy(wider + ", another backend, or another source address for the rule"),
    )
}

/// A connection of this host with a server may have the addresses and ports of a translated one.
pub fn own(facts: &Facts) -> Vec<Finding> {
    let taken = facts.source_ports.and_then(|range| {
        let shared = facts.ephemeral_ports.among(range.ports()?);
        let (first, last) = *shared.first()?;
        let rule = facts.rules.iter().find(|rule| takes_ports(rule))?;
        let subject = format!("rule {}", facts.text(&rule.matches));
        Some((subject, range, format!("{first}-{last}")))
    });
    let finding = |(subject, range, shared): (String, SourcePorts, String)| {
        let reserve =
            Tool::new("sysctl -w").arg(format!("net.ipv4.ip_local_reserved_ports={shared}"));
        Finding::warning("source-ports", subject)
            .consequence("answers to this host's own connections with its servers may go to clients")
            .evidence(format!(
                "connections get source ports from {range}, and this host sends from {shared} itself"
            ))
            .remedy(
                Remedy::from(Command::Name("attach")) + " with another range, or "
                    + reserve
                    + ", beside what is reserved already",
            )
    };
    taken.into_iter().map(finding).collect()
}

/// All of its connections get a port of the range.
fn takes_ports(rule: &Rule) -> bool {
    let translated = |backend| rule.reply_of(backend) == Reply::Nat;
    rule.snat.is_some() && rule.backends.iter().any(translated)
}

#[cfg(test)]
mod tests {
    use super::super::{Check, testing};
    use super::*;
    use crate::model::{EphemeralPorts, Mode, Proto, Rewrite, Snat};

    fn range(first: u16, last: u16) -> Option<SourcePorts> {
        Some(SourcePorts { first, last })
    }

    #[test]
    fn packets_that_found_no_port_are_counted_in_words() {
        let found = |packets, range| {
            let mut facts = testing::attached_to(testing::nic(1), Mode::Skb);
            let counted = testing::outcomes(&[("no_source_port", packets)]);
            (facts.source_ports, _) = (range, facts.outcomes.insert(1, counted));
            Check::Interface(check).run(&facts).pop()
        };
        assert!(found(0, range(10000, 32767)).is_none());
        let one = found(1, range(20000, 20003)).expect("a finding");
        assert!(
            one.consequence
                .starts_with("1 packet of a new connection was")
        );
        assert!(one.evidence.contains("20000-20003"));
        let many = found(7, range(10000, 32767)).expect("a finding");
        assert!(many.consequence.starts_with("7 packets of new"));
        assert_ne!(one.remedy, many.remedy);
    }

    #[test]
    fn ports_of_this_host_s_own_are_no_good() {
        let mut rule = testing::rule(Proto::Udp, 1, Rewrite::default());
        (rule.snat, rule.reply) = (Some(Snat::Auto), Reply::Nat);
        let found = |range, rule: &Rule| {
            own(&Facts {
                rules: vec![rule.clone()],
                source_ports: range,
                ephemeral_ports: EphemeralPorts {
                    first: 32768,
                    last: 60999,
                    reserved: Vec::new(),
                },
                ..Facts::default()
            })
        };
        assert!(found(range(10000, 32767), &rule).is_empty());
        let [finding] = found(range(32000, 33000), &rule).try_into().expect("one");
        assert!(
            finding.evidence.contains("from 32768-33000 itself"),
            "{}",
            finding.evidence
        );
        rule.snat = None;
        assert!(found(range(32000, 33000), &rule).is_empty());
    }
}
