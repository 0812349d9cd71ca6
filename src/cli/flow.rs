//! `xdpredir flow`

use anyhow::Result;

use super::grammar::{self, FlowDel, FlowFilter, Global};
use xdpredir::control::{self, Flows, Pins};
use xdpredir::view;

pub fn run(global: &Global, verb: &grammar::Flow) -> Result<()> {
    let pins = super::pins(global)?;
    match verb {
        grammar::Flow::List(args) => list(global, &pins, args),
        grammar::Flow::Count(args) => count(global, &pins, args),
        grammar::Flow::Del(args) => end(global, &pins, args),
    }
}

fn list(global: &Global, pins: &Pins, args: &FlowFilter) -> Result<()> {
    let flows = Flows::open(pins, &args.into())?;
    let mut all = flows.iter().peekable();
    let is_none = all.peek().is_none();
    if global.json {
        view::json::print_all(all)?;
    } else {
        view::flows::list(all)?;
    }
    if is_none { Err(flows.none()) } else { Ok(()) }
}

fn count(global: &Global, pins: &Pins, args: &FlowFilter) -> Result<()> {
    let counted = Flows::open(pins, &args.into())?.count();
    if global.json {
        let all: u64 = counted.values().sum();
        let report = serde_json::json!({ "connections": all, "states": counted });
        return view::json::print(&report);
    }
    view::text(view::flows::states(&counted))
}

fn end(global: &Global, pins: &Pins, args: &FlowDel) -> Result<()> {
    let ended = control::end_flows(pins, &(&args.filter).into())?;
    if global.json {
        return view::json::print(&serde_json::json!({ "ended": ended }));
    }
    view::sentence(format_args!("ended {}", view::count(ended, "connection")))
}
