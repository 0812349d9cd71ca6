//! `xdpredir rule refresh`

use std::process::ExitCode;

use anyhow::Result;

use super::filter::{self, is_wanted};
use super::grammar::{Filter, Global};
use xdpredir::datapath::{self, Lock, Pins, RuleStore};
use xdpredir::doctor::{self, AT_ONCE, Rebind, Resolutions};
use xdpredir::error::Exit;
use xdpredir::host::device;
use xdpredir::model::{Backend, Rule};
use xdpredir::view::refresh::{Failed, Refreshed, Report};
use xdpredir::view::{self, json};

pub fn run(global: &Global, pins: &Pins, args: &Filter) -> Result<ExitCode> {
    let rules = chosen(pins, args)?;
    // Without the lock: who is asked may take seconds to answer.
    let ways = ways(&rules, args);
    let report = apply(pins, &rules, args, &ways)?;
    for failed in &report.failed {
        view::complaint(format_args!("xdpredir: {failed}"));
    }
    if global.json {
        json::print(&report)?;
    } else {
        view::text(&report)?;
    }
    let all = report.failed.is_empty();
    Ok(ExitCode::from(if all { 0 } else { Exit::Failed as u8 }))
}

/// The rules that have a backend that is meant; exit 3 where some are named, and there are none.
fn chosen(pins: &Pins, args: &Filter) -> Result<Vec<Rule>> {
    let rules = datapath::read(pins, || filter::rules(&RuleStore::open(pins)?, args))?;
    let rules = rules.ok_or_else(|| datapath::not_attached(pins))?;
    filter::require(args, &rules)?;
    Ok(rules)
}

fn ways(rules: &[Rule], args: &Filter) -> Resolutions {
    let backends = rules.iter().flat_map(|rule| &rule.backends);
    let wanted = backends.filter(|backend| is_wanted(args, backend));
    let sought = |backend: &Backend| Some((backend.origin.clone()?, backend.server));
    Resolutions::find(wanted.filter_map(sought).collect())
}

fn apply(pins: &Pins, rules: &[Rule], args: &Filter, ways: &Resolutions) -> Result<Report> {
    let mut report = Report::default();
    if ways.is_empty() {
        return Ok(report);
    }
    let way = |backend: &Backend| {
        let origin = backend.origin.as_ref()?;
        ways.get(origin, backend.server)
            .filter(|_| is_wanted(args, backend))
    };
    for some in rules.chunks(AT_ONCE) {
        let _lock = Lock::take(pins)?;
        let store = RuleStore::open(pins)?;
        let renewals = Rebind::plan_all(&store, some, way)?;
        doctor::carry_out(&store, &renewals)?;
        renewals
            .iter()
            .for_each(|renewal| tell(renewal, &mut report));
    }
    Ok(report)
}

fn tell(renewal: &Rebind, report: &mut Report) {
    let rule = renewal.rule();
    for (old, new) in renewal.changes() {
        let names = [old.ifindex, new.ifindex].map(device::name_of);
        report.refreshed.push(Refreshed::new(rule, old, new, names));
    }
    let failed = renewal.failed.iter();
    let failed = failed.map(|(backend, why)| Failed::new(rule, backend, why));
    report.failed.extend(failed);
}
