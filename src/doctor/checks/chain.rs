//! Programs of a chain that the kernel did not call.

use crate::doctor::facts::{DeviceFacts, Facts, InterfaceFacts};
use crate::model::{Finding, Remedy, Verb};

pub fn check(_: &Facts, interface: &InterfaceFacts, _: &DeviceFacts) -> Option<Finding> {
    if interface.skipped.is_empty() {
        return None;
    }
    let skipped = interface.skipped.iter();
    let skipped: Vec<_> = skipped
        .map(|(name, packets)| format!("{name} was not asked about {packets}"))
        .collect();
    Some(
        Finding::warning("chain", &interface.name)
            .consequence("packets go past programs of its chain, or past ours to the host")
            .evidence(format!(
                "the kernel allows 33 tail calls for a packet, and programs of the chain make some themselves: {}",
                skipped.join(", ")
            ))
            .remedy(
                Remedy::from("delete programs from the chain, which ") + Verb::ChainList + " shows",
            ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::model::Mode;

    #[test]
    fn programs_that_were_not_asked_are_named() {
        let mut facts = testing::attached_to(testing::nic(1), Mode::Native);
        let check = |facts: &Facts| facts.ingress().find_map(|(i, d)| check(facts, i, d));
        assert!(check(&facts).is_none());
        facts.interfaces[0].skipped = vec![("firewall".into(), 7)];
        let found = check(&facts).expect("a finding");
        assert!(found.evidence.contains("firewall was not asked about 7"));
    }
}
