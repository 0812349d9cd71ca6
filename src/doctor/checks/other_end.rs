//! Egress devices whose other end came back to this network namespace. The tc hook hands frames to an end that is
//! in another one, and the kernel drops those for an end that is in the same.

use std::collections::BTreeSet;

use crate::doctor::facts::Facts;
use crate::model::{Finding, Mode, Verb};

pub fn check(facts: &Facts) -> Vec<Finding> {
    if !facts.live().any(|interface| interface.mode == Mode::Tc) {
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    let lost = facts
        .served()
        .filter(|(_, device)| device.other_end_is_back)
        .filter(|(_, device)| seen.insert(device.features.ifindex));
    lost.map(|(backend, device)| {
        Finding::problem("other-end", device.name())
            .consequence("what is redirected to it at the tc hook is lost")
            .evidence("its other end came back to this network namespace after the rules were made")
            .remedy(Verb::RuleRefresh(backend.server))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{nic, redirecting};
    use super::*;

    fn found(mode: Mode, other_end_is_back: bool) -> Vec<Finding> {
        let mut to = nic(2);
        to.other_end_is_back = other_end_is_back;
        let mut facts = redirecting(nic(1), to);
        facts.interfaces[0].mode = mode;
        check(&facts)
    }

    #[test]
    fn only_at_the_tc_hook_does_it_matter_that_the_other_end_is_back() {
        assert_eq!(found(Mode::Tc, false), []);
        assert_eq!(found(Mode::Skb, true), []);
        assert_eq!(found(Mode::Tc, true).len(), 1);
    }
}
