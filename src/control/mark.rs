//! Says that a server is down or up, as a health check has found it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;

use super::RuleSelector;
use crate::datapath::{Lock, Pins, RuleStore};
use crate::model::ForAnswers;

/// What was marked.
pub struct MarkReport {
    /// How many of the selected rules have the server.
    pub rules: usize,
    /// In how many of them it had the other mark.
    pub changed: usize,
    pub for_answers: ForAnswers,
}

/// Marks a server in the selected rules, all of them at one moment.
pub fn mark(
    pins: &Pins,
    server: IpAddr,
    rules: &RuleSelector,
    is_down: bool,
) -> Result<MarkReport> {
    let selector = rules.of_server(server);
    let lock = Lock::take(pins)?;
    let store = RuleStore::open(pins)?;
    let rules = selector.rules(&store)?;
    selector.require(&rules)?;
    let matches = rules.iter().map(|rule| rule.matches);
    let (changed, for_answers) = store.edit(&lock, &BTreeSet::new(), matches, |rules| {
        let backends = rules.iter_mut().flat_map(|rule| &mut rule.backends);
        let ours = backends.filter(|backend| backend.server == server);
        let changed = ours.filter(|backend| backend.marked_down != is_down);
        let mark = changed.map(|backend| backend.marked_down = is_down);
        Ok(mark.count())
    })?;
    Ok(MarkReport {
        rules: rules.len(),
        changed,
        for_answers,
    })
}
