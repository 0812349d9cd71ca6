//! `xdpredir rule`

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::grammar::{self, Filter, Global, RuleAdd, RuleDel};
use super::{explain, load, warnings};
use xdpredir::control::{self, AddReport, Pins};
use xdpredir::error::Exit;
use xdpredir::model::{Match, RuleRecord};
use xdpredir::view::{self, doctor::Row};

pub fn run(global: &Global, verb: &grammar::Rule) -> Result<ExitCode> {
    let pins = super::pins(global)?;
    match verb {
        grammar::Rule::Add(args) => add(global, &pins, args)?,
        grammar::Rule::Del(args) => delete(global, &pins, args)?,
        grammar::Rule::List(args) => list(global, &pins, args)?,
        grammar::Rule::Refresh(args) => return refresh(global, &pins, args),
        grammar::Rule::Load { file } => load::run(global, &pins, file)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(global: &Global, pins: &Pins, args: &Filter) -> Result<()> {
    let records = control::list(pins, &args.into())?;
    if global.json {
        return view::json::print(&records);
    }
    view::text(view::table::rules(&records))
}

#[derive(Serialize)]
struct Added<'a> {
    #[serde(flatten)]
    record: &'a RuleRecord,
    warnings: Option<Vec<Row>>,
}

fn add(global: &Global, pins: &Pins, args: &RuleAdd) -> Result<()> {
    let report = control::add(pins, &args.into())?;
    let record = &report.record;
    if let Some(error) = &report.not_found {
        let (server, why) = (record.server, explain::causes(error));
        view::warning(format_args!(
            "{server} was not found, and stays as it was: {why}"
        ));
    }
    let warnings = warnings::say(global, &report.warnings);
    if global.json {
        return view::json::print(&Added { record, warnings });
    }
    view::sentence(added(&report))?;
    let mut found = report.found.iter();
    found.try_for_each(|found| view::sentence(format_args!("  {found}")))?;
    // Many senders want no answer, so that it is no warning.
    if report.answers_come_from_server() {
        let server = record.server;
        view::sentence(format_args!(
            "  answers come from {server} itself: for clients that refuse those, see --keep-ip"
        ))?;
    }
    Ok(())
}

fn added(report: &AddReport) -> String {
    let AddReport { record, device, .. } = report;
    let verb = if report.is_update { "updated" } else { "added" };
    let (matches, server, mac) = (record.matches(), record.server, record.mac);
    let text = format!(
        "{verb} {matches} -> {server} {mac} via {device} weight {}",
        record.weight
    );
    let rewriting = view::table::rewriting(record);
    format!("{text} {rewriting}").trim_end().to_string()
}

fn delete(global: &Global, pins: &Pins, args: &RuleDel) -> Result<()> {
    let report = control::delete(pins, &args.into(), args.if_exists)?;
    if global.json {
        return view::json::print(&serde_json::json!({ "deleted": report.deleted }));
    }
    let backends = view::count(report.deleted, "backend");
    let rules: Vec<String> = report.rules.iter().map(Match::to_string).collect();
    let of = if args.all {
        "all rules".into()
    } else {
        rules.join(" and ")
    };
    view::sentence(format_args!("deleted {backends} of {of}"))
}

fn refresh(global: &Global, pins: &Pins, args: &Filter) -> Result<ExitCode> {
    let report = control::refresh(pins, &args.into())?;
    for failed in &report.failed {
        view::complaint(format_args!("xdpredir: {}", view::refresh::failed(failed)));
    }
    if global.json {
        view::json::print(&report)?;
    } else {
        let mut lines = view::refresh::lines(&report).into_iter();
        lines.try_for_each(view::sentence)?;
    }
    let all = report.failed.is_empty();
    Ok(ExitCode::from(if all { 0 } else { Exit::Failed as u8 }))
}
