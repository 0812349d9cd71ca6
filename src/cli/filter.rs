//! Which rules and backends are meant.

use anyhow::{Result, ensure};

use super::grammar::Filter;
use xdpredir::datapath::RuleStore;
use xdpredir::error::{Exit, failure};
use xdpredir::model::{Backend, Match, Rule};

/// The rules that have a backend that is meant.
pub fn rules(store: &RuleStore, filter: &Filter) -> Result<Vec<Rule>> {
    let mut rules = store.list()?;
    rules.retain(|rule| {
        is_meant(filter, &rule.matches) && rule.backends.iter().any(|b| is_wanted(filter, b))
    });
    Ok(rules)
}

/// Exit 3 where something is named, and there is nothing.
pub fn require<T>(filter: &Filter, found: &[T]) -> Result<()> {
    let message = "no such rule or backend; `xdpredir rule list` shows what there is";
    ensure!(
        !found.is_empty() || !is_narrowed(filter),
        failure(Exit::NotFound, message)
    );
    Ok(())
}

pub fn is_wanted(filter: &Filter, backend: &Backend) -> bool {
    filter.server.is_none_or(|server| server == backend.server)
}

fn is_meant(filter: &Filter, matches: &Match) -> bool {
    filter.src.is_none_or(|src| src == matches.src)
        && filter.proto.is_none_or(|proto| proto == matches.proto)
        && filter.port.is_none_or(|port| port == matches.port)
        && filter.vlan.is_none_or(|vlan| Some(vlan) == matches.vlan)
}

fn is_narrowed(filter: &Filter) -> bool {
    filter.src.is_some()
        || filter.proto.is_some()
        || filter.port.is_some()
        || filter.vlan.is_some()
        || filter.server.is_some()
}
