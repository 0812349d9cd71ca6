//! The addresses that rules announce. They stand among the rules: see struct rule4 in bpf/abi/rule.h.

use std::collections::HashMap;

use super::codec;
use super::key::Key;
use super::words::{of_word, word_of};
use crate::datapath::abi;
use crate::model::{Match, Ports, Prefix, Rule};

/// How many rules more announce an address than before, or less.
#[derive(Debug, Default)]
pub struct Announcements(HashMap<Key, i64>);

impl Announcements {
    /// A rule comes.
    pub fn add(&mut self, rule: &Rule) {
        self.change(rule, 1);
    }

    /// A rule goes.
    pub fn remove(&mut self, rule: &Rule) {
        self.change(rule, -1);
    }

    fn change(&mut self, rule: &Rule, by: i64) {
        if rule.announce {
            *self.0.entry(key_of(&rule.matches)).or_default() += by;
        }
    }

    /// Those that change.
    pub fn changes(&self) -> impl Iterator<Item = (&Key, i64)> {
        let all = self.0.iter().map(|(key, &by)| (key, by));
        all.filter(|(_, by)| *by != 0)
    }
}

/// Under which a rule's destination is announced, at the place where the rule takes packets.
fn key_of(matches: &Match) -> Key {
    let key = codec::key_of(&Match {
        src: Prefix::any_like(matches.dst.addr()),
        ports: Ports::ANY,
        ..*matches
    });
    let probe = abi::probe {
        proto: abi::PROTO_ANNOUNCED as u8,
        ..of_word(key.probe)
    };
    Key {
        probe: word_of(&probe),
        ..key
    }
}

/// Whether a key is that of an announced address, and not of a rule.
pub fn is_announced(key: &Key) -> bool {
    let probe: abi::probe = of_word(key.probe);
    u32::from(probe.proto) == abi::PROTO_ANNOUNCED
}
