//! `xdpredir policy`

use anyhow::Result;

use super::grammar::{self, Global};
use super::{pins, warnings};
use xdpredir::control::{self, PolicyReport};
use xdpredir::view;

pub fn run(global: &Global, args: &grammar::Policy) -> Result<()> {
    let pins = pins(global)?;
    let Some(wanted) = &args.policy else {
        return show(global, &control::policy(&pins, &args.interface)?);
    };
    let report = control::set_policy(&pins, &args.interface, wanted)?;
    let warnings = warnings::say(global, &control::check_policy(&pins, report.ifindex));
    if !global.json {
        sentence(&report)?;
        return view::answers::say(&report.for_answers);
    }
    let changed = report.changed;
    let mut json = json(&report)?;
    let more = serde_json::json!({"changed": changed, "warnings": warnings});
    view::json::extend(&mut json, &more)?;
    view::json::extend(&mut json, &report.for_answers)?;
    view::json::print(&json)
}

fn show(global: &Global, report: &PolicyReport) -> Result<()> {
    if global.json {
        return view::json::print(&json(report)?);
    }
    sentence(report)
}

fn sentence(report: &PolicyReport) -> Result<()> {
    let PolicyReport { ifname, policy, .. } = report;
    view::sentence(format_args!("{ifname}: policy {policy}"))
}

fn json(report: &PolicyReport) -> Result<serde_json::Value> {
    let mut json = serde_json::json!({"ifname": report.ifname, "ifindex": report.ifindex});
    view::json::extend(&mut json, &report.policy)?;
    Ok(json)
}
