//! Rules whose answers cannot be translated, because the program does not see them.

use std::collections::BTreeSet;

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Finding, Reply, Rule, Verb};

/// One finding for each device where answers arrive and the program is not attached.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for rule in &facts.rules {
        for device in unseen(facts, rule) {
            if seen.insert(device.features.ifindex) {
                findings.push(finding(facts, rule, device));
            }
        }
    }
    findings
}

/// The egress devices of the rule's backends, which the program is not attached to.
fn unseen<'a>(facts: &'a Facts, rule: &'a Rule) -> impl Iterator<Item = &'a DeviceFacts> {
    let translated = |backend: &&_| rule.reply_of(backend) == Reply::Nat;
    let backends = rule.backends.iter().filter(translated);
    let devices = backends.filter_map(|backend| facts.devices.get(&backend.ifindex));
    devices.filter(|device| !sees_answers(facts, device))
}

/// What comes in by a port of a bridge is seen on the bridge, too, where it is meant for this host.
fn sees_answers(facts: &Facts, device: &DeviceFacts) -> bool {
    let master = device.features.master.as_ref();
    let master = master.map(|master| master.ifindex);
    let mut places = [Some(device.features.ifindex), master]
        .into_iter()
        .flatten();
    places.any(|ifindex| facts.attached.contains(&ifindex))
}

fn finding(facts: &Facts, rule: &Rule, device: &DeviceFacts) -> Finding {
    let name = device.name();
    Finding::warning("answers", format!("rule {}", facts.text(&rule.matches)))
        .consequence("clients refuse the answers, which are not translated")
        .evidence(format!(
            "they arrive at {name}, and xdpredir is not attached to it"
        ))
        .remedy(Verb::Attach {
            interfaces: vec![name.into()],
            mode: None,
            policy: None,
            force: false,
        })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attach, attached_to, nic, rule};
    use super::*;
    use crate::model::{Mode, Proto, Rewrite};

    #[test]
    fn where_answers_are_not_seen_the_program_is_to_be_attached() {
        let mut facts = attached_to(nic(1), Mode::Skb);
        facts.devices.insert(2, nic(2));
        let mut all = vec![rule(Proto::Udp, 2, Rewrite::default())];
        facts.rules.clone_from(&all);
        assert!(check(&facts).is_empty());

        all[0].reply = Reply::Nat;
        facts.rules = all;
        let [finding] = check(&facts).try_into().expect("one finding");
        assert!(finding.evidence.contains("nic2"));
        attach(&mut facts, nic(2), Mode::Skb);
        assert!(check(&facts).is_empty());
    }
}
