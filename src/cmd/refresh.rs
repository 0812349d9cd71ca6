//! `xdpredir rule refresh`

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Global, RuleRefresh};
use crate::datapath::{Pins, RuleStore};
use crate::doctor::{Renewal, Ways};
use crate::error::{Exit, failure};
use crate::host::device;
use crate::model::{Backend, Match, Rule};
use crate::show::refresh::{Failed, Refreshed, Report};
use crate::show::{self, json};

pub fn run(global: &Global, pins: &Pins, args: &RuleRefresh) -> Result<ExitCode> {
    let rules = chosen(pins, args)?;
    // Without the lock: who is asked may take seconds to answer.
    let ways = ways(&rules, args);
    let report = apply(pins, &rules, args, &ways)?;
    for failed in &report.failed {
        eprintln!("xdpredir: {failed}");
    }
    if global.json {
        json::print(&report)?;
    } else {
        show::text(&report)?;
    }
    let all = report.failed.is_empty();
    Ok(ExitCode::from(if all { 0 } else { Exit::Failed as u8 }))
}

/// The rules that have a backend that is meant; exit 3 where some are named, and there are none.
fn chosen(pins: &Pins, args: &RuleRefresh) -> Result<Vec<Rule>> {
    let Some(_lock) = pins.lock_shared()? else {
        return Err(pins.not_attached());
    };
    let mut rules = RuleStore::open(pins)?.list()?;
    rules.retain(|rule| {
        is_meant(args, &rule.matches) && rule.backends.iter().any(|b| is_wanted(args, b))
    });
    if rules.is_empty() && is_narrowed(args) {
        let message = "no such rule or backend; `xdpredir rule list` shows what there is";
        return Err(failure(Exit::NotFound, message));
    }
    Ok(rules)
}

fn is_narrowed(args: &RuleRefresh) -> bool {
    args.src.is_some()
        || args.proto.is_some()
        || args.port.is_some()
        || args.vlan.is_some()
        || args.server.is_some()
}

fn is_meant(args: &RuleRefresh, matches: &Match) -> bool {
    args.src.is_none_or(|src| src == matches.src)
        && args.proto.is_none_or(|proto| proto == matches.proto)
        && args.port.is_none_or(|port| port == matches.port)
        && args.vlan.is_none_or(|vlan| vlan == matches.vlan)
}

fn is_wanted(args: &RuleRefresh, backend: &Backend) -> bool {
    args.server.is_none_or(|server| server == backend.server)
}

fn ways(rules: &[Rule], args: &RuleRefresh) -> Ways {
    let backends = rules.iter().flat_map(|rule| &rule.backends);
    let wanted = backends.filter(|backend| is_wanted(args, backend));
    let sought = |backend: &Backend| Some((backend.origin.clone()?, backend.server));
    Ways::find(wanted.filter_map(sought).collect())
}

fn apply(pins: &Pins, rules: &[Rule], args: &RuleRefresh, ways: &Ways) -> Result<Report> {
    let mut report = Report::default();
    if ways.is_empty() {
        return Ok(report);
    }
    let way = |backend: &Backend| {
        let origin = backend.origin.as_ref()?;
        ways.get(origin, backend.server)
            .filter(|_| is_wanted(args, backend))
    };
    let _lock = pins.lock()?;
    let store = RuleStore::open(pins)?;
    for rule in rules {
        // As it is by now: another run may have changed it meanwhile.
        if let Some(rule) = store.get(&rule.matches)? {
            let renewal = Renewal::plan(&store, rule, way)?;
            renewal.carry_out(&store)?;
            tell(&renewal, &mut report);
        }
    }
    Ok(report)
}

fn tell(renewal: &Renewal, report: &mut Report) {
    let rule = renewal.rule();
    for (old, new) in renewal.changes() {
        let names = [old.ifindex, new.ifindex].map(device::name_of);
        report.refreshed.push(Refreshed::new(rule, old, new, names));
    }
    let failed = renewal.failed.iter();
    let failed = failed.map(|(backend, why)| Failed::new(rule, backend, why));
    report.failed.extend(failed);
}
