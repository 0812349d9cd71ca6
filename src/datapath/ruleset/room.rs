//! The limits, in the words of docs/limits.md, and how much of them rules take.

use std::fmt;

use anyhow::Result;
use indicatif::HumanCount;

use crate::datapath::abi;
use crate::error::{Exit, failure};
use crate::model::{Remedy, Rule, Verb};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    most: u32,
    what: &'static str,
}

const fn limit(most: u32, what: &'static str) -> Limit {
    Limit { most, what }
}

const RULES: Limit = limit(abi::MAX_RULES, "rules");
const BACKENDS: Limit = limit(abi::MAX_BACKENDS, "backends");
pub const PROBES: Limit = limit(
    abi::MAX_PROBES,
    "combinations of IP version, protocol, ports and prefix lengths",
);
pub const PORT_PROBES: Limit = limit(
    abi::MAX_PORT_PROBES,
    "combinations of prefix lengths, port ranges and protocol that match one port",
);
const BALANCED: Limit = limit(abi::MAX_BALANCED, "rules with more than one backend");
const MEMBERS: Limit = limit(abi::MAX_MEMBERS, "backends in rules with several");
const LOCATORS: Limit = limit(
    abi::MAX_LOCATORS,
    "backends that remember how they were found",
);
pub const EGRESS: Limit = limit(abi::MAX_EGRESS, "devices that packets are sent to");

impl Limit {
    /// The limit that a full map has met; None for the maps that rules do not fill.
    pub fn of_map(name: &str) -> Option<Self> {
        Some(match name {
            "lines" => RULES,
            "probes" => PROBES,
            "counters" => BACKENDS,
            "locators" => LOCATORS,
            "egress" => EGRESS,
            _ => return None,
        })
    }

    pub fn allows(self, needed: usize) -> bool {
        needed <= self.most as usize
    }

    pub fn require(self, needed: usize) -> Result<()> {
        if self.allows(needed) {
            return Ok(());
        }
        let needed = count(needed);
        let why = format!("{self}, and there would be {needed}: nothing was changed");
        Err(failure(Exit::Failed, (why, makes_room())))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} are the most",
            count(self.most as usize),
            self.what
        )
    }
}

fn count(number: usize) -> HumanCount {
    HumanCount(number as u64)
}

/// What helps where a limit is reached.
pub fn makes_room() -> Remedy {
    Remedy::from(Verb::Plain("rule del")) + " makes room"
}

/// What rules take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub rules: usize,
    pub backends: usize,
    pub balanced: usize,
    pub members: usize,
    pub locators: usize,
    /// Rules that remember connections.
    pub remembering: usize,
}

impl Usage {
    /// What a rule set takes.
    pub fn of_set(set: &abi::ruleset) -> Self {
        let of = |number: u32| number as usize;
        Usage {
            rules: of(set.rules),
            backends: of(set.backends),
            balanced: of(set.balanced),
            members: of(set.members),
            locators: of(set.locators),
            remembering: of(set.remembering),
        }
    }

    /// Notes it in the rule set.
    pub fn store(&self, set: &mut abi::ruleset) {
        set.rules = self.rules as u32;
        set.backends = self.backends as u32;
        set.balanced = self.balanced as u32;
        set.members = self.members as u32;
        set.locators = self.locators as u32;
        set.remembering = self.remembering as u32;
    }

    /// Adds a rule.
    pub fn add(&mut self, rule: &Rule) {
        let origins = rule.backends.iter().filter(|b| b.origin.is_some());
        self.count(rule.backends.len(), origins.count(), rule.remembers());
    }

    /// Adds a rule with so many backends, of which some have locators.
    pub fn count(&mut self, backends: usize, locators: usize, remembers: bool) {
        self.rules += 1;
        self.remembering += usize::from(remembers);
        self.backends += backends.max(1);
        self.locators += locators;
        if backends > 1 {
            self.members += backends;
            self.balanced += 1;
        }
    }

    /// What is left once some rules are replaced by others.
    pub fn change(self, gone: Usage, new: Usage) -> Self {
        let change = |of: fn(Usage) -> usize| (of(self) + of(new)).saturating_sub(of(gone));
        Usage {
            rules: change(|usage| usage.rules),
            backends: change(|usage| usage.backends),
            balanced: change(|usage| usage.balanced),
            members: change(|usage| usage.members),
            locators: change(|usage| usage.locators),
            remembering: change(|usage| usage.remembering),
        }
    }

    /// In this order: what says most of a file that has too much comes first.
    fn by_limit(&self) -> [(Limit, usize); 5] {
        [
            (BALANCED, self.balanced),
            (MEMBERS, self.members),
            (RULES, self.rules),
            (BACKENDS, self.backends),
            (LOCATORS, self.locators),
        ]
    }

    pub fn has_room(&self) -> bool {
        let mut all = self.by_limit().into_iter();
        all.all(|(limit, needed)| limit.allows(needed))
    }

    pub fn require_room(&self) -> Result<()> {
        let mut all = self.by_limit().into_iter();
        all.try_for_each(|(limit, needed)| limit.require(needed))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::error::remedy;
    use crate::model::{Action, Adjacency, Backend, Match, Snat};

    fn rule(port: u16, backends: u32, snat: bool) -> Rule {
        let server = |number: u32| Ipv4Addr::from(0x0a00_0001 + number);
        let backend = |number| Backend::new(Adjacency::example(server(number)));
        Rule {
            snat: snat.then(|| Snat::Address([10, 1, 1, 1].into())),
            backends: (0..backends).map(backend).collect(),
            ..Rule::new(Match::example(port.max(1)))
        }
    }

    fn usage(rules: &[Rule]) -> Usage {
        let mut usage = Usage::default();
        rules.iter().for_each(|rule| usage.add(rule));
        usage
    }

    #[test]
    fn what_rules_take_is_counted() {
        let drop = Rule::acting(Match::example(4), Action::Drop);
        let used = usage(&[rule(1, 1, false), rule(2, 1, true), rule(3, 3, false), drop]);
        assert_eq!((used.rules, used.backends), (4, 6));
        assert_eq!((used.balanced, used.members), (1, 3));
        let [gone, new] = [rule(3, 3, false), rule(3, 2, false)].map(|rule| usage(&[rule]));
        let after = used.change(gone, new);
        assert_eq!((after.rules, after.backends, after.members), (4, 5, 2));
        let mut set = abi::ruleset::default();
        after.store(&mut set);
        assert_eq!(Usage::of_set(&set), after);
    }

    #[test]
    fn what_is_too_much_is_said_in_words() {
        let all: Vec<Rule> = (0..=abi::MAX_BALANCED)
            .map(|number| rule(number as u16, 2, false))
            .collect();
        assert!(usage(&all[1..]).require_room().is_ok());
        let error = usage(&all).require_room().expect_err("one more");
        assert_eq!(
            error.to_string(),
            "16,384 rules with more than one backend are the most, and there would be 16,385: \
             nothing was changed"
        );
        assert_eq!(remedy(&error), makes_room());
    }

    #[test]
    fn each_limit_is_met_and_not_passed() {
        let most = Usage {
            rules: abi::MAX_RULES as usize,
            balanced: abi::MAX_BALANCED as usize,
            members: abi::MAX_MEMBERS as usize,
            backends: abi::MAX_BACKENDS as usize,
            locators: abi::MAX_LOCATORS as usize,
            remembering: 0,
        };
        assert!(most.has_room() && most.require_room().is_ok());
        type More = fn(&mut Usage);
        let cases: [(More, &str); 5] = [
            (|usage| usage.rules += 1, "1,048,576 rules are"),
            (|usage| usage.balanced += 1, "16,384 rules with more"),
            (|usage| usage.members += 1, "65,536 backends in rules"),
            (|usage| usage.backends += 1, "1,048,576 backends are"),
            (|usage| usage.locators += 1, "65,536 backends that"),
        ];
        for (add, said) in cases {
            let mut usage = most;
            add(&mut usage);
            assert!(!usage.has_room());
            let error = usage.require_room().expect_err(said).to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
