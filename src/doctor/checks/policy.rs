//! Policies that forward to a device that is gone.

use crate::doctor::facts::{Facts, InterfaceFacts};
use crate::model::{Finding, Remedy, Verb};

pub fn check(facts: &Facts) -> Vec<Finding> {
    facts
        .live()
        .filter_map(|interface| gone(facts, interface))
        .collect()
}

fn gone(facts: &Facts, interface: &InterfaceFacts) -> Option<Finding> {
    let ifindex = interface.policy.device()?;
    if facts.serving(ifindex).is_some() {
        return None;
    }
    let change = |policy: &str| Verb::Policy(interface.name.clone(), policy.into());
    let evidence = match ifindex {
        0 => "the device that it was made for is gone".into(),
        _ => format!("the device that it was made for, ifindex {ifindex}, is gone"),
    };
    Some(
        Finding::problem("policy", &interface.name)
            .consequence("frames that no rule matches are dropped, in place of being forwarded")
            .evidence(evidence)
            .remedy(
                Remedy::from(change("forward:DEV"))
                    + " with the device that took its place, or "
                    + change("pass"),
            ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attached_to, nic};
    use super::*;
    use crate::doctor::facts::DeviceFacts;
    use crate::model::{Mode, Policy};

    fn found(policy: Policy, in_service: bool) -> Vec<Finding> {
        let mut facts = attached_to(nic(1), Mode::Skb);
        facts.interfaces[0].policy = policy;
        let device = nic(2);
        facts.devices.insert(
            2,
            DeviceFacts {
                in_service,
                ..device
            },
        );
        check(&facts)
    }

    #[test]
    fn a_device_that_is_gone_is_a_problem_of_policies_that_forward_there() {
        let forward = |ifindex| Policy::Forward {
            ifindex,
            completes_checksum: true,
        };
        assert_eq!(found(Policy::Pass, false), []);
        assert_eq!(found(Policy::Drop, false), []);
        assert_eq!(found(forward(2), true), []);
        // Another device has its index; no device has it; nobody knows the index any more.
        for (ifindex, in_service) in [(2, false), (3, true), (0, true)] {
            let findings = found(forward(ifindex), in_service);
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].subject, "nic1");
        }
    }
}
