//! Packets that come back to where they were redirected.

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Backend, Finding, Rule};

/// One finding an egress device.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let of = |device| {
        let again = meets_again(facts, device)?;
        let mut rules = facts.rules.iter();
        let rule = rules.find(|rule| rule.backends.iter().any(|b| returns(rule, b, device)))?;
        Some(finding(device, rule, &again))
    };
    facts.egress().filter_map(of).collect()
}

/// Whether the program looks at what is redirected to a device, as its peer's.
fn meets_again(facts: &Facts, device: &DeviceFacts) -> Option<String> {
    let peer = device.peer()?;
    let is_attached = peer.nsid.is_none() && facts.attached.contains(&peer.ifindex);
    let redirects = device
        .peer_facts
        .as_ref()
        .is_some_and(|there| there.redirects);
    (is_attached || redirects).then(|| format!("xdpredir is attached to its peer {peer}, too"))
}

/// Whether what a backend gets still matches the rule.
fn returns(rule: &Rule, backend: &Backend, device: &DeviceFacts) -> bool {
    let (matches, rewrite) = (&rule.matches, &backend.rewrite);
    let untagged = if rewrite.pop_vlan { None } else { matches.vlan };
    backend.ifindex == device.features.ifindex
        && rewrite.to_port.is_none_or(|port| port == matches.port)
        && rule
            .snat_of(backend)
            .is_none_or(|snat| matches.src.contains(&snat))
        && rewrite.push_vlan.or(untagged) == matches.vlan
}

fn finding(device: &DeviceFacts, rule: &Rule, evidence: &str) -> Finding {
    let (consequence, remedy) = if rule.decrement_ttl {
        (
            "packets go back and forth until their TTL is used up, if a rule at its peer takes them, too",
            "give the rules of one side a narrower match, such as a source",
        )
    } else {
        (
            "packets go back and forth without an end, if a rule at its peer takes them, too",
            "give the rules of one side a narrower match, such as a source, or have them decrement the TTL",
        )
    };
    Finding::warning("loop", device.name())
        .consequence(consequence)
        .evidence(format!(
            "{evidence}, and what rule {} sends there still matches it",
            rule.matches
        ))
        .remedy(remedy)
}
