//! `xdpredir chain`

use anyhow::Result;

use super::grammar::{self, ChainAdd, Global};
use xdpredir::control::{self, ChainReport, ChainRequest, Pins};
use xdpredir::view;

pub fn run(global: &Global, verb: &grammar::Chain) -> Result<()> {
    let pins = super::pins(global)?;
    match verb {
        grammar::Chain::Add(args) => add(global, &pins, args),
        grammar::Chain::List { interface } => list(global, &pins, interface.as_deref()),
        grammar::Chain::Del { interface, program } => {
            let report = control::chain_delete(&pins, interface, program)?;
            say(global, &report, "deleted")
        }
    }
}

fn add(global: &Global, pins: &Pins, args: &ChainAdd) -> Result<()> {
    let request = ChainRequest {
        interface: args.interface.clone(),
        source: args.program.clone(),
        priority: args.priority,
        on: args.on,
    };
    say(global, &control::chain_add(pins, &request)?, "added")
}

/// What became of a program.
fn say(global: &Global, report: &ChainReport, done: &str) -> Result<()> {
    if global.json {
        return view::json::print(report);
    }
    let ChainReport {
        ifname, programs, ..
    } = report;
    programs.iter().try_for_each(|program| {
        let (name, priority) = (&program.name, program.priority);
        view::sentence(format_args!("{ifname}: {done} {name}, priority {priority}"))
    })
}

fn list(global: &Global, pins: &Pins, interface: Option<&str>) -> Result<()> {
    let reports = control::chain_list(pins, interface)?;
    if global.json {
        return view::json::print(&reports);
    }
    let rows: Vec<_> = reports
        .iter()
        .flat_map(|report| {
            report
                .programs
                .iter()
                .map(|program| (&*report.ifname, program))
        })
        .collect();
    match rows[..] {
        [] => view::sentence("no program is asked before ours"),
        _ => view::text(view::chain::list(&rows)),
    }
}
