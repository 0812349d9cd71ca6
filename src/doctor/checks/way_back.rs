//! Rules whose answers are translated, and whose servers send them where the program does not see them.

use super::{mac, rp_filter};
use crate::doctor::facts::{BackendFacts, Certainty, DeviceFacts, Facts, Reply, ReturnRoute};
use crate::model::{self, Backend, Finding, Remedy, Rewriting, Rule, Snat, Verb};

/// One finding a backend, however many rules have it.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let backends = facts.served();
    let found = backends.filter_map(|(backend, device)| of_backend(facts, backend, device));
    found.collect()
}

fn of_backend(facts: &Facts, backend: &BackendFacts, device: &DeviceFacts) -> Option<Finding> {
    // A packet that is dropped where it arrives is not answered.
    let arrives = !backend.has_left() && rp_filter::check(backend, device).is_none();
    let replies = &backend.namespace.as_ref()?.replies;
    let translated = backend.translated && arrives;
    let Reply { source, back, .. } = replies.iter().find(|reply| translated && is_lost(reply))?;
    let (peer, (rule, its)) = (device.peer()?, rule_of(facts, backend)?);
    let evidence = match back {
        ReturnRoute::Missing => format!("there is no route to {source}"),
        _ => format!("the route to {source} leaves by another device"),
    };
    Some(
        Finding::warning("way-back", mac::subject(backend, device))
            .consequence(format!(
                "what it answers to {source} does not come back to this host, which cannot translate it"
            ))
            .evidence(format!("{evidence} in the network namespace of {peer}"))
            .remedy(match rule.snat {
                None => Remedy::from(with_own_source(rule, its)),
                Some(_) => Remedy::from(format!("add a route to {source} there, by {}", peer.name())),
            }),
    )
}

/// Who may be anybody may be a neighbour, too.
fn is_lost(reply: &Reply) -> bool {
    match reply.back {
        ReturnRoute::ByArrival => false,
        ReturnRoute::ByAnother => true,
        ReturnRoute::Missing => reply.source.known != Certainty::Guessed,
    }
}

/// A rule that has the backend.
fn rule_of<'a>(facts: &'a Facts, backend: &BackendFacts) -> Option<(&'a Rule, &'a Backend)> {
    let is_it = |rule: &Rule, its: &Backend| {
        its.adjacency == backend.adjacency && rule.reply_of(its) == model::Reply::Nat
    };
    let mut rules = facts.rules.iter();
    rules.find_map(|rule| Some((rule, rule.backends.iter().find(|its| is_it(rule, its))?)))
}

/// The same rule with an address of this host as the source.
fn with_own_source(rule: &Rule, backend: &Backend) -> Verb {
    Verb::RuleAdd {
        matches: rule.matches,
        server: backend.server,
        device: None,
        rewriting: Some(Rewriting {
            snat: Some(Snat::Auto),
            ..rule.rewriting(backend.rewrite)
        }),
    }
}
