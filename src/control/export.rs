//! Writes what there is as a file of rules has it.

use anyhow::Result;

use super::apply::{Live, Names};
use crate::datapath::{self, Pins, RuleStore};
use crate::model::{RuleEntry, RuleSet};

/// All but the rules, and each rule when its turn comes: there may be a million.
pub fn export(pins: &Pins) -> Result<(RuleSet, impl Iterator<Item = RuleEntry> + use<>)> {
    let live = Live::read(pins)?;
    let read = datapath::read(pins, || {
        let store = RuleStore::open(pins)?;
        let mut rules = store.list()?;
        store.forget_gone(&mut rules)?;
        Ok(rules)
    })?;
    let rules = read.ok_or_else(|| datapath::not_attached(pins))?;
    let whole = RuleSet {
        group: live.group,
        connections: live.connections,
        snat_ports: live.snat_ports,
        // Rules may be kept where nothing is attached any more.
        interface: (rules.is_empty() || !live.interfaces.is_empty())
            .then(|| live.interfaces.into_iter().map(|i| i.entry).collect()),
        rule: None,
    };
    let mut names = Names::default();
    let entries = rules.into_iter().map(move |rule| names.entry(&rule));
    Ok((whole, entries))
}

/// The JSON Schema of files.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(RuleSet).to_value()
}
