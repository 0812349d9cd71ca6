//! Rules none of whose backends takes new flows, because somebody has said so of each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::doctor::facts::Facts;
use crate::model::{Action, Backend, Finding, Rule};

/// The backends, and which of them are marked down.
type Idle = Vec<(IpAddr, bool)>;

/// One finding for all rules that have the same backends, for the same reasons.
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut found: BTreeMap<Idle, Vec<&Rule>> = BTreeMap::new();
    for rule in facts.rules.iter().filter(|rule| takes_nothing(rule)) {
        let backends = rule.backends.iter();
        let idle = backends.map(|backend| (backend.server, backend.marked_down));
        found.entry(idle.collect()).or_default().push(rule);
    }
    let all = found.values();
    all.filter_map(|rules| finding(facts, rules)).collect()
}

fn takes_nothing(rule: &Rule) -> bool {
    rule.action == Action::Redirect && !rule.backends.iter().any(Backend::takes_flows)
}

fn finding(facts: &Facts, rules: &[&Rule]) -> Option<Finding> {
    let first = rules.first()?;
    let subject = match rules.len() {
        1 => facts.text(&first.matches),
        count => format!("{count} rules, such as {}", facts.text(&first.matches)),
    };
    let why = |backend: &Backend| match backend.marked_down {
        true => format!("{} is marked down", backend.server),
        false => format!("{} has weight 0", backend.server),
    };
    let why: Vec<String> = first.backends.iter().map(why).collect();
    Some(
        Finding::problem("no-backend", subject)
            .consequence("no server takes new flows, whose packets pass")
            .evidence(why.join(", "))
            .remedy("mark a server up, or give one a weight"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::model::{Proto, Rewrite, Weight};

    #[test]
    fn rules_with_the_same_idle_backends_are_one_finding() {
        let mut facts = testing::host();
        let rule = |change: fn(&mut Backend)| {
            let mut rule = testing::rule(Proto::Udp, 1, Rewrite::default());
            change(&mut rule.backends[0]);
            rule
        };
        facts.rules = vec![rule(|_| ())];
        assert!(check(&facts).is_empty());
        facts.rules.push(rule(|backend| backend.marked_down = true));
        let one = check(&facts).pop().expect("one has none");
        assert_eq!(one.evidence, "10.0.0.2 is marked down");
        assert!(one.subject.ends_with("udp port 7999"), "{}", one.subject);
        let drained = || rule(|backend| backend.weight = Weight::NONE);
        facts.rules.extend([drained(), drained()]);
        let both = check(&facts);
        assert_eq!(both.len(), 2);
        assert!(both[0].subject.starts_with("2 rules, such as "));
        assert_eq!(both[0].evidence, "10.0.0.2 has weight 0");
        // Another backend takes flows.
        let rules = &mut facts.rules;
        rules.retain(|rule| !rule.backends[0].takes_flows());
        for rule in rules {
            rule.put(Backend::new(crate::model::Adjacency::example([
                10, 0, 0, 3,
            ])));
        }
        assert!(check(&facts).is_empty());
    }
}
