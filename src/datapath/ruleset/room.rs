//! The limits, in the words of docs/limits.md, and how much of them rules take.

use std::collections::HashSet;
use std::fmt;

use anyhow::Result;
use indicatif::HumanCount;

use super::codec::{ServiceBytes, key_of, needs_set, service_of, set_size};
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
pub const BACKENDS: Limit = limit(abi::MAX_BACKENDS, "backends");
pub const SERVICES: Limit = limit(
    abi::MAX_SERVICES,
    "combinations of IP version, protocol, port and VLAN",
);
const BALANCED: Limit = limit(abi::MAX_BALANCED, "rules with more than one backend");
const MEMBERS: Limit = limit(
    abi::MAX_MEMBERS,
    "backends in rules with several and in rules with a new source address",
);
pub const LOCATORS: Limit = limit(
    abi::MAX_LOCATORS,
    "backends that remember how they were found",
);
pub const EGRESS: Limit = limit(abi::MAX_EGRESS, "devices that packets are redirected to");

impl Limit {
    /// The limit that a full map has met; None for the maps that rules do not fill.
    pub fn of_map(name: &str) -> Option<Self> {
        Some(match name {
            "rules" => RULES,
            "prefix_lengths" => SERVICES,
            "maglev" => BALANCED,
            "members" => MEMBERS,
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
#[derive(Clone, Default)]
pub struct Usage {
    pub rules: usize,
    pub balanced: usize,
    pub members: usize,
    pub backends: usize,
    pub locators: usize,
    pub services: HashSet<ServiceBytes>,
}

impl Usage {
    pub fn of(rules: &[Rule]) -> Self {
        let mut usage = Usage::default();
        for rule in rules {
            let key = key_of(&rule.matches);
            usage.count(&key, rule.backends.len(), needs_set(rule));
            let origins = rule.backends.iter().filter_map(|b| b.origin.as_ref());
            usage.locators += origins.count();
        }
        usage
    }

    /// Adds a rule that is stored, but for its locators, which are not in its value.
    pub fn add_stored(&mut self, key: &abi::rule_key, value: &abi::rule) {
        match set_size(value.set) as usize {
            0 => self.count(key, 1, false),
            backends => self.count(key, backends, true),
        }
    }

    fn count(&mut self, key: &abi::rule_key, backends: usize, in_set: bool) {
        self.rules += 1;
        self.backends += backends;
        self.services.insert(service_of(key));
        if in_set {
            self.members += backends;
            self.balanced += usize::from(backends > 1);
        }
    }

    /// In this order: what says most of a file that has too much comes first.
    fn by_limit(&self) -> [(Limit, usize); 6] {
        [
            (SERVICES, self.services.len()),
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

/// How many of these rules a batch takes: at least one, where there is one.
pub fn batch_of(rules: &[Rule]) -> usize {
    let mut backends = 0;
    let fits = |rule: &&Rule| {
        backends += rule.backends.len();
        backends <= abi::BATCH_BACKENDS as usize
    };
    let fitting = rules.iter().take_while(fits).count();
    fitting.clamp(1, abi::BATCH_RULES as usize).min(rules.len())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::error::remedy;
    use crate::model::{Adjacency, Backend, Match};

    fn rule(port: u16, backends: u32, snat: bool) -> Rule {
        let server = |number: u32| Ipv4Addr::from(0x0a00_0001 + number);
        let backend = |number| Backend::new(Adjacency::example(server(number)));
        Rule {
            snat: snat.then_some(IpAddr::from([10, 1, 1, 1])),
            backends: (0..backends).map(backend).collect(),
            ..Rule::new(Match::example(port.max(1)))
        }
    }

    #[test]
    fn what_rules_take_is_counted() {
        let used = Usage::of(&[rule(1, 1, false), rule(2, 1, true), rule(3, 3, false)]);
        assert_eq!((used.rules, used.backends), (3, 5));
        assert_eq!((used.balanced, used.members), (1, 4));
        assert_eq!(used.services.len(), 3);
    }

    #[test]
    fn what_is_too_much_is_said_in_words() {
        let all: Vec<Rule> = (0..=abi::MAX_BALANCED)
            .map(|number| rule(number as u16, 2, false))
            .collect();
        assert!(Usage::of(&all[1..]).require_room().is_ok());
        let error = Usage::of(&all).require_room().expect_err("one more");
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
            services: HashSet::new(),
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
            let mut usage = most.clone();
            add(&mut usage);
            assert!(!usage.has_room());
            let error = usage.require_room().expect_err(said).to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[test]
    fn a_batch_has_few_rules_and_few_backends() {
        let of = |backends: u32, rules: usize| batch_of(&vec![rule(1, backends, false); rules]);
        assert_eq!(of(1, 0), 0);
        assert_eq!(of(1, 7), 7);
        assert_eq!(of(1, 2000), 1024);
        assert_eq!(of(255, 100), 16);
        assert_eq!(of(4, 1024), 1024);
        assert_eq!(of(5, 1024), 819);
    }
}
