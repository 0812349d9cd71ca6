//! The difference of two rule sets.

use std::collections::BTreeMap;

use super::{Match, Rule};

/// What has to change so that one set of rules becomes another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Rules as they are to be, in place of those that have their matches.
    pub put: Vec<Rule>,
    pub delete: Vec<Match>,
}

impl Plan {
    /// The changes that make the rules `have` the rules `want`. All other rules stay.
    pub fn between(have: &[Rule], want: &[Rule]) -> Self {
        let mut old: BTreeMap<Match, &Rule> = have.iter().map(|r| (r.matches, r)).collect();
        let changed = |rule: &&Rule| old.remove(&rule.matches) != Some(*rule);
        Plan {
            put: want.iter().filter(changed).cloned().collect(),
            delete: old.into_keys().collect(),
        }
    }

    /// Stores rules, whatever is there now.
    pub fn put(rules: Vec<Rule>) -> Self {
        Plan {
            put: rules,
            delete: Vec::new(),
        }
    }

    /// Deletes rules.
    pub fn delete<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        Plan {
            put: Vec::new(),
            delete: rules.into_iter().map(|rule| rule.matches).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(port: u16, decrement_ttl: bool) -> Rule {
        Rule {
            decrement_ttl,
            ..Rule::new(Match::example(port))
        }
    }

    #[test]
    fn a_plan_has_what_differs_and_no_more() {
        let have = [rule(1, true), rule(2, true), rule(3, true)];
        let want = [rule(4, true), rule(2, false), rule(1, true)];
        let plan = Plan::between(&have, &want);
        assert_eq!(plan.put, [rule(4, true), rule(2, false)]);
        assert_eq!(plan.delete, [rule(3, true).matches]);
        assert_eq!(Plan::between(&have, &have), Plan::default());
    }

    #[test]
    fn from_nothing_and_to_nothing() {
        let rules = [rule(1, true), rule(2, true)];
        assert_eq!(Plan::between(&[], &rules), Plan::put(rules.to_vec()));
        assert_eq!(Plan::between(&rules, &[]), Plan::delete(&rules));
    }
}
