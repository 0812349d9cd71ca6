//! Packets that come back to where they were redirected.

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::{Action, Backend, Finding, Rule};

/// Whether the program looks at what is redirected to a device, as its peer's.
pub fn check(facts: &Facts, device: &DeviceFacts) -> Option<Finding> {
    let peer = device.peer()?;
    let there = device.peer_facts.as_ref();
    let is_attached = peer.nsid.is_none() && facts.attached.contains(&peer.ifindex);
    if !is_attached && !there.is_some_and(|there| there.redirects) {
        return None;
    }
    let arrives = |rule: &Rule| {
        let ingress = rule.matches.ingress;
        ingress.is_none_or(|ingress| peer.nsid.is_none() && ingress == peer.ifindex)
    };
    let returning = |rule: &&Rule| arrives(rule) && sends_back(rule, device);
    let rule = facts.rules.iter().find(returning)?;
    let (consequence, remedy) = if rule.action == Action::Redirect && rule.decrement_ttl {
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
    Some(
        Finding::warning("loop", device.name())
            .consequence(consequence)
            .evidence(format!(
                "xdpredir is attached to its peer {peer}, too, and what rule {} sends there still matches it",
                facts.text(&rule.matches)
            ))
            .remedy(remedy),
    )
}

/// Whether what a rule sends out by a device still matches it.
fn sends_back(rule: &Rule, device: &DeviceFacts) -> bool {
    let is_forwarded = rule.action.ifindex() == Some(device.features.ifindex);
    is_forwarded || rule.backends.iter().any(|b| returns(rule, b, device))
}

/// Whether what a backend gets still matches the rule.
fn returns(rule: &Rule, backend: &Backend, device: &DeviceFacts) -> bool {
    let (matches, rewrite) = (&rule.matches, &backend.rewrite);
    let tags = [matches.vlan, matches.inner_vlan];
    let kept = tags.into_iter().flatten().skip(rewrite.pops.get().into());
    let mut sent = rewrite.push_vlan.into_iter().chain(kept);
    let (outer, inner) = (sent.next(), sent.next());
    backend.ifindex == device.features.ifindex
        && rewrite
            .to_port
            .is_none_or(|port| matches.ports.contain(port))
        && (rewrite.keep_ip || matches.dst.contains(&backend.server))
        && rule
            .snat_of(backend)
            .is_none_or(|snat| matches.src.contains(&snat))
        && outer == matches.vlan
        && (matches.inner_vlan.is_none() || inner == matches.inner_vlan)
}
