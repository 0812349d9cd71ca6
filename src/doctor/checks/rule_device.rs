//! Rules whose own devices are gone: the one that they forward to, or the interface that they compare.

use crate::doctor::facts::Facts;
use crate::model::{Finding, Match, Remedy, Rule, Verb};

/// Rules that forward to a device that is gone.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let gone = |rule: &&Rule| {
        let device = rule.action.ifindex();
        device.is_some_and(|ifindex| facts.serving(ifindex).is_none())
    };
    let finding = |rule: &Rule| {
        Finding::problem("rule-device", subject(facts, &rule.matches))
            .consequence("its packets are not forwarded, and pass to this host")
            .evidence("the device that it forwards to is gone")
            .remedy(
                Remedy::from(again(&rule.matches))
                    + ", and add it again with a device that is there",
            )
    };
    facts.rules.iter().filter(gone).map(finding).collect()
}

/// Rules for an interface where the program is not attached.
pub fn interfaces(facts: &Facts) -> Vec<Finding> {
    let alone = |matches: &&Match| {
        let ingress = matches.ingress;
        ingress.is_some_and(|ifindex| !facts.attached.contains(&ifindex))
    };
    facts
        .matches()
        .filter(alone)
        .map(|m| not_attached(facts, m))
        .collect()
}

fn not_attached(facts: &Facts, matches: &Match) -> Finding {
    let device = matches
        .ingress
        .and_then(|ifindex| facts.devices.get(&ifindex));
    let finding = Finding::warning("rule-interface", subject(facts, matches))
        .consequence("it never sees a packet");
    match device {
        Some(device) => finding
            .evidence(format!("xdpredir is not attached to {}", device.name()))
            .remedy(Verb::Attach {
                interfaces: vec![device.name().into()],
                mode: None,
                policy: None,
                force: false,
            }),
        None => finding
            .evidence(
                "the interface that it is for is gone; one that gets the same name is another one",
            )
            .remedy(
                Remedy::from(again(matches)) + ", and add it again for an interface that is there",
            ),
    }
}

fn subject(facts: &Facts, matches: &Match) -> String {
    format!("rule {}", facts.text(matches))
}

fn again(matches: &Match) -> Verb {
    Verb::RuleDel(Some(*matches), None)
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::model::{Action, Mode};

    fn facts(rule: Rule) -> Facts {
        let mut facts = testing::attached_to(testing::nic(1), Mode::Native);
        facts.devices.insert(2, testing::nic(2));
        facts.rules.push(rule);
        facts
    }

    fn example(ingress: Option<u32>) -> Match {
        Match {
            ingress,
            ..Match::example(53)
        }
    }

    #[test]
    fn a_rule_that_forwards_to_a_device_that_is_gone_is_a_problem() {
        let to = |ifindex| {
            let forward = Action::Forward {
                ifindex,
                macs: None,
                completes_checksum: false,
            };
            check(&facts(Rule::acting(example(None), forward))).len()
        };
        assert_eq!([0, 1, 2, 3].map(to), [1, 0, 0, 1]);
        assert!(check(&facts(Rule::new(example(None)))).is_empty());
    }

    #[test]
    fn a_rule_for_an_interface_without_the_program_is_a_warning() {
        let found = |ingress| {
            let found = interfaces(&facts(Rule::acting(example(ingress), Action::Pass)));
            found.into_iter().next().map(|finding| finding.evidence)
        };
        assert_eq!([None, Some(1)].map(found), [None, None]);
        assert_eq!(
            found(Some(2)).as_deref(),
            Some("xdpredir is not attached to nic2")
        );
        assert!(found(Some(3)).is_some_and(|evidence| evidence.contains("is gone")));
    }
}
