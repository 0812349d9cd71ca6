//! Rules that others shadow: with a rule for each half of its source prefix, none is left.

use std::collections::HashSet;

use crate::doctor::facts::Facts;
use crate::model::{Command, Finding, Match, Prefix, Remedy};

pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut matches: Vec<&Match> = facts.matches().collect();
    matches.sort_by_key(|matches| std::cmp::Reverse(matches.src.prefix_len()));
    let mut covered = Covered::default();
    let shadowed = matches.into_iter().filter(|matches| !covered.add(matches));
    shadowed.map(finding).collect()
}

fn finding(matches: &Match) -> Finding {
    Finding::warning("shadowed-rule", format!("rule {matches}"))
        .consequence("it never sees a packet")
        .evidence("rules with longer source prefixes cover all of its source")
        .remedy(Remedy::from(Command::Name("rule del")) + " it, or one of those")
}

/// The prefixes all of whose addresses have a rule so far, from the longest on.
#[derive(Default)]
struct Covered(HashSet<Match>);

impl Covered {
    /// False where longer ones cover it already.
    fn add(&mut self, matches: &Match) -> bool {
        let mut now = *matches;
        if !self.0.insert(now) {
            return false;
        }
        // Two halves cover the whole, which may be a half itself.
        while let Some((sibling, whole)) = pair(now.src) {
            if !self.0.contains(&Match {
                src: sibling,
                ..now
            }) {
                break;
            }
            now.src = whole;
            self.0.insert(now);
        }
        true
    }
}

fn pair(src: Prefix) -> Option<(Prefix, Prefix)> {
    let whole = src.supernet()?;
    let mut halves = whole.subnets(src.prefix_len()).ok()?;
    let sibling = halves.find(|half| *half != *src)?;
    Some((sibling.try_into().ok()?, whole.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Port, Proto, Rule};

    fn shadowed(sources: &[&str]) -> Vec<String> {
        let matches = sources.iter().map(|source| Match {
            proto: Proto::Udp,
            ports: Port::new(7999).expect("a port").into(),
            ..Match::any_like(source.parse::<Prefix>().expect("a prefix").addr())
        });
        let matches = matches.zip(sources).map(|(matches, source)| Match {
            src: source.parse().expect("a prefix"),
            ..matches
        });
        let rules = matches.map(Rule::new);
        let facts = Facts {
            rules: rules.collect(),
            ..Facts::default()
        };
        let findings = check(&facts).into_iter();
        findings.map(|finding| finding.subject).collect()
    }

    #[test]
    fn only_a_rule_that_is_covered_completely_is_shadowed() {
        let halves = ["10.0.0.0/9", "10.128.0.0/9"];
        assert!(shadowed(&halves).is_empty());
        assert!(shadowed(&["10.0.0.0/8", "10.0.0.0/9", "11.0.0.0/9"]).is_empty());
        let all = ["10.0.0.0/8", halves[0], halves[1]];
        assert_eq!(shadowed(&all), ["rule src 10.0.0.0/8 udp port 7999"]);
        assert_eq!(
            shadowed(&["::/0", "::/1", "8000::/1", "0.0.0.0/0"]).len(),
            1
        );
        // With everything covered, even the rule for any source.
        assert_eq!(
            shadowed(&["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/2"]).len(),
            1
        );
    }
}
