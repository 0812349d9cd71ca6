//! Findings that rest on what was guessed, because the kernel doesn't tell it.

use super::{Check, mode, multi_buffer, redirect_target};
use crate::doctor::facts::Facts;
use crate::model::Finding;

pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut resting = [
        Check::Egress(redirect_target::check),
        Check::Egress(multi_buffer::check),
        Check::Interface(mode::check),
    ]
    .into_iter();
    if facts.host.tells_features || resting.all(|check| check.run(facts).is_empty()) {
        return Vec::new();
    }
    vec![
        Finding::warning("netdev", "kernel")
            .consequence("what drivers can do with XDP is guessed")
            .evidence("it has no netdev family of generic netlink")
            .remedy("boot Linux 6.3 or later"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{host, nic, redirecting};
    use super::*;

    #[test]
    fn that_features_are_guessed_is_said_where_a_finding_rests_on_it() {
        let mut facts = redirecting(nic(1), nic(2));
        facts.host = host().host;
        assert!(check(&facts).is_empty());
        facts.host.tells_features = false;
        assert!(check(&facts).is_empty());
        for known in [Some(false), None] {
            let egress = facts.devices.get_mut(&2).unwrap();
            egress.features.xdp.redirect_target = known;
            assert_eq!(check(&facts)[0].check, "netdev");
        }
    }
}
