//! Packets that come back to where they were redirected.

use super::{Link, Setup};
use crate::model::{Backend, Finding, Match, Rule};

/// One finding an egress device.
pub fn check(setup: &Setup) -> Vec<Finding> {
    let of = |link| {
        let again = meets_again(setup, link)?;
        let mut rules = setup.rules.iter();
        let rule = rules.find(|rule| rule.backends.iter().any(|b| returns(rule, b, link)))?;
        Some(finding(link, &rule.matches, &again))
    };
    setup.egress().filter_map(of).collect()
}

/// Whether the program looks at what is redirected to a device, as its peer's.
fn meets_again(setup: &Setup, link: &Link) -> Option<String> {
    let peer = link.peer()?;
    let is_attached = peer.nsid.is_none() && setup.attached.contains(&peer.ifindex);
    let redirects = link.there.as_ref().is_some_and(|there| there.redirects);
    (is_attached || redirects).then(|| format!("xdpredir is attached to its peer {peer}, too"))
}

/// What a backend gets still matches the rule, and doesn't wear out.
fn returns(rule: &Rule, backend: &Backend, link: &Link) -> bool {
    let (matches, rewrite) = (&rule.matches, &backend.rewrite);
    let untagged = if rewrite.pop_vlan { 0 } else { matches.vlan };
    backend.ifindex == link.features.ifindex
        && !rewrite.decrement_ttl
        && rewrite.to_port.is_none_or(|port| port == matches.port)
        && rewrite.snat.is_none_or(|snat| matches.src.contains(&snat))
        && rewrite.push_vlan.unwrap_or(untagged) == matches.vlan
}

fn finding(link: &Link, rule: &Match, evidence: &str) -> Finding {
    Finding::warning("loop", link.name())
        .consequence("packets may be redirected back and forth, again and again")
        .evidence(format!(
            "{evidence}, and what rule {rule} sends there still matches such a rule"
        ))
        .mend(
            "`--decrement-ttl` in the rules of one side, which ends it, or a narrower match there",
        )
}
