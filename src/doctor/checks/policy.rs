//! Policies that forward to a device that is gone, or that completes checksums unlike what they remember.

use crate::doctor::facts::{Facts, InterfaceFacts};
use crate::model::{Finding, Mode, Policy, Remedy, Verb};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let of = |interface| gone(facts, interface).or_else(|| checksum(facts, interface));
    facts.live().filter_map(of).collect()
}

fn gone(facts: &Facts, interface: &InterfaceFacts) -> Option<Finding> {
    let ifindex = interface.policy.device()?;
    if facts.serving(ifindex).is_some() {
        return None;
    }
    let evidence = match ifindex {
        0 => "the device that it was made for is gone".into(),
        _ => format!("the device that it was made for, ifindex {ifindex}, is gone"),
    };
    Some(
        Finding::problem("policy", &interface.name)
            .consequence("frames that no rule matches are dropped, in place of being forwarded")
            .evidence(evidence)
            .remedy(
                Remedy::from(change(interface, "forward:DEV"))
                    + " with the device that took its place, or "
                    + change(interface, "pass"),
            ),
    )
}

/// Natively, the program completes all itself, and at the tc hook the kernel does.
fn checksum(facts: &Facts, interface: &InterfaceFacts) -> Option<Finding> {
    let Policy::Forward {
        ifindex,
        completes_checksum,
    } = interface.policy
    else {
        return None;
    };
    let device = facts.serving(ifindex)?;
    let (name, completes) = (device.name(), device.completes_checksum);
    if interface.mode != Mode::Skb || completes == completes_checksum {
        return None;
    }
    let now = if completes { "on" } else { "off" };
    Some(
        Finding::problem("policy", &interface.name)
            .consequence(
                "packets of local senders may be forwarded with checksums that are refused",
            )
            .evidence(format!(
                "tx-checksum of {name} is {now} now, and was not when the policy was set"
            ))
            .remedy(change(interface, &format!("forward:{name}"))),
    )
}

fn change(interface: &InterfaceFacts, policy: &str) -> Verb {
    Verb::Policy(interface.name.clone(), policy.into())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attached_to, nic};
    use super::*;
    use crate::doctor::facts::DeviceFacts;

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

    #[test]
    fn who_completes_checksums_may_change() {
        let found = |mode, completes_checksum| {
            let mut facts = attached_to(nic(1), mode);
            facts.interfaces[0].policy = Policy::Forward {
                ifindex: 2,
                completes_checksum,
            };
            facts.devices.insert(2, nic(2));
            check(&facts)
        };
        assert_eq!(found(Mode::Skb, true), []);
        assert_eq!(found(Mode::Native, false), []);
        let change = Verb::Policy("nic1".into(), "forward:nic2".into());
        assert_eq!(found(Mode::Skb, false)[0].remedy, change.into());
    }
}
