//! What concerns rules just loaded. Many rules share few backends: some of them stand for all, so
//! that a load of a million rules takes no longer for being checked.

use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::probe;
use super::probe::backends::SOURCES;
use crate::datapath::Pins;
use crate::doctor::facts::{BackendFacts, Facts, Identity};
use crate::error::{Exit, failure};
use crate::model::{Proto, Remedy, Rule, Verb};

/// Different backends that are looked at.
const BACKENDS: usize = 64;

/// How long that may take: a server's namespace asks its neighbours, who may be silent.
const WITHIN: Duration = Duration::from_secs(5);

/// Some of the rules, and of their backends.
#[derive(Default)]
pub struct Sample {
    rules: Vec<Rule>,
    /// How many rules have a backend that is not among them.
    pub left_out: usize,
}

impl Sample {
    pub fn of(rules: &[Rule]) -> Self {
        let mut sample = Sample::default();
        let mut taken: HashMap<Key, usize> = HashMap::new();
        // The rule before mostly has the same backend: no need to look it up.
        let mut enough = None;
        for rule in rules {
            let mut some = Vec::new();
            let mut left_out = false;
            for backend in &rule.backends {
                let key = (BackendFacts::identity(backend), rule.matches.proto);
                if enough == Some(key) {
                    continue;
                }
                let full = taken.len() == BACKENDS;
                match taken.get_mut(&key) {
                    Some(rules) if *rules == SOURCES => enough = Some(key),
                    Some(rules) => {
                        *rules += 1;
                        some.push(backend.clone());
                    }
                    None if full => left_out = true,
                    None => {
                        taken.insert(key, 1);
                        some.push(backend.clone());
                    }
                }
            }
            sample.left_out += usize::from(left_out);
            if !some.is_empty() {
                sample.rules.push(rule.with(some));
            }
        }
        sample
    }

    /// What there is to say of them, now that they are loaded.
    pub fn facts(self, pins: &Pins) -> Result<Facts> {
        let pins = pins.clone();
        let (send, receive) = mpsc::channel();
        // Nobody waits for its end once it is late: it only looks, and ends with this run.
        thread::spawn(move || {
            let _ = send.send(probe::of_rules(&pins, &self.rules));
        });
        match receive.recv_timeout(WITHIN) {
            Ok(facts) => facts,
            Err(RecvTimeoutError::Timeout) => {
                let why = format!("that takes over {} s", WITHIN.as_secs());
                let remedy = Remedy::from(Verb::Plain("doctor")) + " takes its time";
                Err(failure(Exit::Failed, (why, remedy)))
            }
            Err(error) => Err(error.into()),
        }
    }
}

type Key = (Identity, Proto);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::{Adjacency, Backend, Match};

    fn rule(number: u32, servers: &[u32]) -> Rule {
        let server = |&server: &u32| Ipv4Addr::from(0x0a00_0000 + server);
        let backend = |number: &u32| Backend::new(Adjacency::example(server(number)));
        let rule = Rule::new(Match {
            src: std::net::IpAddr::from(Ipv4Addr::from(number)).into(),
            ..Match::example(1)
        });
        rule.with(servers.iter().map(backend).collect())
    }

    #[test]
    fn a_few_rules_stand_for_all_that_have_the_same_backends() {
        let rules: Vec<Rule> = (0..1000).map(|number| rule(number, &[1, 2])).collect();
        let sample = Sample::of(&rules);
        assert_eq!(sample.rules, rules[..SOURCES]);
        assert_eq!(sample.left_out, 0);
    }

    #[test]
    fn of_many_backends_some_are_left_out() {
        let many = BACKENDS as u32;
        let rules: Vec<Rule> = (0..many + 5)
            .map(|number| rule(number, &[number]))
            .collect();
        let sample = Sample::of(&rules);
        assert_eq!(sample.rules, rules[..BACKENDS]);
        assert_eq!(sample.left_out, 5);
    }
}
