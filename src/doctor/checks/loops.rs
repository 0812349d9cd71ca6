//! Packets that come back to where they were redirected.

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Backend, Finding, Rule};

/// One finding an egress device.
pub fn check(setup: &Facts) -> Vec<Finding> {
    let of = |link| {
        let again = meets_again(setup, link)?;
        let mut rules = setup.rules.iter();
        let rule = rules.find(|rule| rule.backends.iter().any(|b| returns(rule, b, link)))?;
        Some(finding(link, rule, &again))
    };
    setup.egress().filter_map(of).collect()
}

/// Whether the program looks at what is redirected to a device, as its peer's.
fn meets_again(setup: &Facts, link: &DeviceFacts) -> Option<String> {
    let peer = link.peer()?;
    let is_attached = peer.nsid.is_none() && setup.attached.contains(&peer.ifindex);
    let redirects = link.there.as_ref().is_some_and(|there| there.redirects);
    (is_attached || redirects).then(|| format!("xdpredir is attached to its peer {peer}, too"))
}

/// Whether what a backend gets still matches the rule.
fn returns(rule: &Rule, backend: &Backend, link: &DeviceFacts) -> bool {
    let (matches, rewrite) = (&rule.matches, &backend.rewrite);
    let untagged = if rewrite.pop_vlan { None } else { matches.vlan };
    backend.ifindex == link.features.ifindex
        && rewrite.to_port.is_none_or(|port| port == matches.port)
        && rule
            .snat_of(backend)
            .is_none_or(|snat| matches.src.contains(&snat))
        && rewrite.push_vlan.or(untagged) == matches.vlan
}

fn finding(link: &DeviceFacts, rule: &Rule, evidence: &str) -> Finding {
    let (consequence, remedy) = if rule.decrement_ttl {
        (
            "packets go back and forth until their TTL is used up, if a rule at its peer takes them, too",
            "give the rules of one side a narrower match, such as --src",
        )
    } else {
        (
            "packets go back and forth without an end, if a rule at its peer takes them, too",
            "give the rules of one side a narrower match, such as --src, or leave out --keep-ttl",
        )
    };
    Finding::warning("loop", link.name())
        .consequence(consequence)
        .evidence(format!(
            "{evidence}, and what rule {} sends there still matches it",
            rule.matches
        ))
        .mend(remedy)
}
