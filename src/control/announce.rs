//! Announces the destinations of rules.

use anyhow::Result;

use super::error::Error;
use crate::datapath::{self, Pins, RuleStore};
use crate::doctor::announce;
use crate::error::Failure;
use crate::model::Rule;

/// The rules that announce their destination, where those that they replace do not.
pub fn new_ones<'a>(pins: &Pins, rules: impl IntoIterator<Item = &'a Rule>) -> Result<Vec<Rule>> {
    let announced: Vec<&Rule> = rules.into_iter().filter(|rule| rule.announce).collect();
    if announced.is_empty() {
        return Ok(Vec::new());
    }
    let look = || {
        let store = RuleStore::open(pins)?;
        let mut new = Vec::new();
        for &rule in &announced {
            let known = store.get(&rule.matches)?;
            if !known.is_some_and(|known| known.announce) {
                new.push(rule.clone());
            }
        }
        Ok(new)
    };
    Ok(datapath::read(pins, look)?.unwrap_or_default())
}

/// That no other host has an address that the rules are to announce.
pub fn require_free(pins: &Pins, rules: &[Rule]) -> Result<()> {
    match announce::taken(pins, rules)? {
        Some(taken) => Err(Failure::new(Error::Taken(taken))),
        None => Ok(()),
    }
}

/// Tells the hosts of the links. That is no more than a help: those that are not told, because this process may not,
/// ask once what they know has become old.
pub fn tell(pins: &Pins, rules: &[Rule]) {
    let _ = announce::tell(pins, rules);
}
