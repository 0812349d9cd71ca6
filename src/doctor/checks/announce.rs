//! Addresses of a link that clients ask: for which nobody answers, or two hosts do, or the program cannot.

use super::remedies;
use crate::doctor::facts::{DestinationFacts, DeviceFacts, Facts, InterfaceFacts};
use crate::model::{Finding, Mode, Remedy, Rewriting, Rule, Verb};

/// For each rule at each interface, what is worst.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let of = |destination: &DestinationFacts| {
        let mut ingress = facts.ingress();
        let (interface, device) = ingress.find(|(i, _)| i.ifindex == destination.ifindex)?;
        if !destination.rule.announce {
            return unanswered(facts, destination, interface);
        }
        conflict(facts, destination, interface)
            .or_else(|| own(facts, destination))
            .or_else(|| silent(facts, destination, interface))
            .or_else(|| another_mac(facts, destination, interface, device))
    };
    facts.destinations.iter().filter_map(of).collect()
}

fn subject(facts: &Facts, destination: &DestinationFacts) -> String {
    format!("rule {}", facts.text(&destination.rule.matches))
}

/// An address, or a prefix of several.
fn destination_of(rule: &Rule) -> String {
    let dst = rule.matches.dst;
    match dst.prefix_len() == dst.max_prefix_len() {
        true => dst.addr().to_string(),
        false => dst.to_string(),
    }
}

fn unanswered(
    facts: &Facts,
    destination: &DestinationFacts,
    interface: &InterfaceFacts,
) -> Option<Finding> {
    let DestinationFacts { rule, own, .. } = destination;
    let answers = own.is_some() || destination.proxied || destination.owner.is_some();
    if !destination.on_link || !destination.asked || answers {
        return None;
    }
    let (name, dst) = (&interface.name, destination_of(rule));
    Some(
        Finding::warning("announce", subject(facts, destination))
            .consequence(format!(
                "hosts of the network behind {name} do not find {dst}, so that they send nothing to it"
            ))
            .evidence("nobody answers for that address there")
            .remedy(announcing(rule)?),
    )
}

/// The same rule, which announces its destination.
fn announcing(rule: &Rule) -> Option<Remedy> {
    let backend = rule.backends.first()?;
    let announcing = Rewriting {
        announce: Some(true),
        ..rule.rewriting(backend.rewrite)
    };
    Some(Remedy::from(Verb::RuleAdd {
        matches: rule.matches,
        server: backend.server,
        device: None,
        rewriting: Some(announcing),
    }))
}

fn conflict(
    facts: &Facts,
    destination: &DestinationFacts,
    interface: &InterfaceFacts,
) -> Option<Finding> {
    let (addr, mac) = destination.owner?;
    let name = &interface.name;
    let delete = Verb::RuleDel(Some(destination.rule.matches), None);
    Some(
        Finding::problem("announce", subject(facts, destination))
            .consequence(format!(
                "what is sent to {addr} reaches this host or another one, by chance"
            ))
            .evidence(format!("{mac} behind {name} has that address, too"))
            .remedy(Remedy::from("take the address from that host, or ") + delete),
    )
}

fn own(facts: &Facts, destination: &DestinationFacts) -> Option<Finding> {
    let addr = destination.own?;
    Some(
        Finding::warning("announce", subject(facts, destination))
            .consequence(
                "the program answers in the place of this host, which would answer by itself",
            )
            .evidence(format!("this host has {addr} itself"))
            .remedy("do not announce it, or take the address off this host"),
    )
}

fn silent(
    facts: &Facts,
    destination: &DestinationFacts,
    interface: &InterfaceFacts,
) -> Option<Finding> {
    let (name, dst) = (&interface.name, destination_of(&destination.rule));
    let to_skb = remedies::reattach(facts, &[name], Some(Mode::Skb));
    (!interface.answers).then(|| {
        Finding::warning("announce", subject(facts, destination))
            .consequence(format!("nobody behind {name} is answered who asks for {dst}"))
            .evidence(format!(
                "what {name} sends back natively was lost when it was attached, or was not known to arrive"
            ))
            .remedy(to_skb)
    })
}

fn another_mac(
    facts: &Facts,
    destination: &DestinationFacts,
    interface: &InterfaceFacts,
    device: &DeviceFacts,
) -> Option<Finding> {
    let (name, now) = (&interface.name, device.features.mac?);
    let then = interface.mac.filter(|then| *then != now)?;
    Some(
        Finding::problem("announce", subject(facts, destination))
            .consequence(format!(
                "who asks behind {name} gets a MAC address that it does not have any more"
            ))
            .evidence(format!("it had {then} when it was attached, and has {now}"))
            .remedy(remedies::reattach(facts, &[name], Some(interface.mode))),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attached_to, nic, rule};
    use super::*;
    use crate::model::{Mac, Proto, Rewrite, Severity};

    fn found(announce: bool, change: impl Fn(&mut DestinationFacts, &mut Facts)) -> Vec<Finding> {
        let mut facts = attached_to(nic(1), Mode::Skb);
        let mut rule = rule(Proto::Udp, 2, Rewrite::default());
        rule.matches.dst = "192.0.2.53".parse().expect("a prefix");
        rule.announce = announce;
        let mut destination = DestinationFacts {
            rule,
            ifindex: 1,
            on_link: true,
            own: None,
            proxied: false,
            asked: true,
            owner: None,
        };
        change(&mut destination, &mut facts);
        facts.destinations.push(destination);
        check(&facts)
    }

    const ADDR: [u8; 4] = [192, 0, 2, 53];

    #[test]
    fn an_address_for_which_nobody_answers_is_to_be_announced() {
        let [finding] = found(false, |_, _| ()).try_into().expect("one finding");
        assert_eq!(finding.severity, Severity::Warning);
        assert!(finding.consequence.contains("192.0.2.53"));
        type Change = fn(&mut DestinationFacts);
        let answered: [Change; 6] = [
            |d| d.rule.announce = true,
            |d| d.on_link = false,
            |d| d.asked = false,
            |d| d.own = Some(ADDR.into()),
            |d| d.proxied = true,
            |d| d.owner = Some((ADDR.into(), Mac([2; 6]))),
        ];
        let gone = |d: &mut DestinationFacts| d.ifindex = 2;
        let unanswered = |change: Change| found(false, |d, _| change(d));
        for (number, change) in answered.into_iter().chain([gone as Change]).enumerate() {
            let found = unanswered(change);
            let is_own = found.iter().all(|f| f.severity == Severity::Problem);
            assert!(found.is_empty() || is_own, "{number}: {found:?}");
        }
    }

    #[test]
    fn an_announced_address_that_another_host_has_is_a_problem() {
        assert_eq!(found(true, |_, _| ()), []);
        let owner = Some((ADDR.into(), Mac([2, 0, 0, 0, 0, 9])));
        let [finding] = found(true, |d, _| d.owner = owner).try_into().expect("one");
        assert_eq!(finding.severity, Severity::Problem);
        assert!(finding.evidence.contains("02:00:00:00:00:09"));
        let [finding] = found(true, |d, _| d.own = Some(ADDR.into()))
            .try_into()
            .expect("one");
        assert_eq!(finding.severity, Severity::Warning);
    }

    #[test]
    fn an_interface_that_cannot_answer_or_has_another_mac_address_now_is_found() {
        let silent = found(true, |_, facts| facts.interfaces[0].answers = false);
        assert_eq!(silent.len(), 1);
        let with_mac = |then| {
            found(true, |_, facts| {
                facts.interfaces[0].mac = Some(Mac(then));
                let device = facts.devices.get_mut(&1).expect("it is there");
                device.features.mac = Some(Mac([2; 6]));
            })
        };
        assert_eq!(with_mac([2; 6]), []);
        assert_eq!(with_mac([4; 6])[0].severity, Severity::Problem);
    }
}
