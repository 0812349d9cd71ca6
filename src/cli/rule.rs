//! `xdpredir rule`

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::grammar::{self, Filter, Global, RuleAdd, RuleDel, RuleMark, ServerMark};
use super::{drain, failed, load, requests, warnings};
use xdpredir::control::{self, ActionReport, AddReport, Pins};
use xdpredir::error::Exit;
use xdpredir::model::{AnswerWay, ForAnswers, RuleRecord};
use xdpredir::view::{self, doctor::Row};

pub fn run(global: &Global, verb: &grammar::Rule) -> Result<ExitCode> {
    let pins = super::pins(global)?;
    match verb {
        grammar::Rule::Add(args) => add(global, &pins, args)?,
        grammar::Rule::Del(args) => delete(global, &pins, args)?,
        grammar::Rule::List(args) => list(global, &pins, args)?,
        grammar::Rule::Drain(args) => return drain::run(global, &pins, args),
        grammar::Rule::Mark(args) => mark(global, &pins, args)?,
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
    view::text(view::rules::table(&records))
}

#[derive(Serialize)]
struct Added<'a> {
    #[serde(flatten)]
    record: &'a RuleRecord,
    #[serde(flatten)]
    for_answers: &'a ForAnswers,
    answers: &'a [AnswerWay],
    warnings: Option<Vec<Row>>,
}

#[derive(Serialize)]
struct AddedRules<'a> {
    rules: &'a [RuleRecord],
    #[serde(flatten)]
    for_answers: &'a ForAnswers,
    warnings: Option<Vec<Row>>,
}

fn add(global: &Global, pins: &Pins, args: &RuleAdd) -> Result<()> {
    if let Some(request) = requests::action(args) {
        return add_action(global, &control::add_action(pins, &request)?);
    }
    let report = control::add(pins, &args.into())?;
    let record = &report.record;
    if let Some(error) = &report.not_found {
        let (server, why) = (report.server, failed::causes(error));
        view::warning(format_args!(
            "{server} was not found, and stays as it was: {why}"
        ));
    }
    warnings::untranslated(global, &report.untranslated);
    let warnings = warnings::say(global, &report.warnings);
    if global.json {
        return view::json::print(&Added {
            record,
            for_answers: &report.for_answers,
            answers: &report.ways,
            warnings,
        });
    }
    view::sentence(added(&report))?;
    let mut found = report.found.iter();
    found.try_for_each(|found| view::sentence(format_args!("  {found}")))?;
    view::answers::say(&report.for_answers)?;
    view::answers::say_ways(&report.ways)
}

fn added(report: &AddReport) -> String {
    let AddReport {
        record,
        server,
        mac,
        device,
        ..
    } = report;
    let verb = verb(report.is_update);
    let (matches, weight) = (record.matches_text(), record.weight);
    let text = format!("{verb} {matches} -> {server} {mac} via {device} weight {weight}");
    let mark = if record.marked_down {
        " marked down"
    } else {
        ""
    };
    let rewriting = view::rules::rewriting(record);
    format!("{text}{mark} {rewriting}").trim_end().to_string()
}

fn verb(is_update: bool) -> &'static str {
    if is_update { "updated" } else { "added" }
}

fn add_action(global: &Global, report: &ActionReport) -> Result<()> {
    let warnings = warnings::say(global, &report.warnings);
    let rules = &report.records;
    if global.json {
        return view::json::print(&AddedRules {
            rules,
            for_answers: &report.for_answers,
            warnings,
        });
    }
    let verb = verb(report.is_update);
    let mut lines = rules.iter().map(|rule| {
        let (matches, action) = (rule.matches_text(), view::rules::action(rule));
        format!("{verb} {matches} -> {action}")
    });
    lines.try_for_each(view::sentence)?;
    view::answers::say(&report.for_answers)
}

fn delete(global: &Global, pins: &Pins, args: &RuleDel) -> Result<()> {
    let report = control::delete(pins, &args.into(), args.if_exists)?;
    if global.json {
        let mut json = serde_json::json!({ "deleted": report.deleted() });
        view::json::extend(&mut json, &report.for_answers)?;
        return view::json::print(&json);
    }
    let rules: Vec<String> = report.rules.iter().map(control::match_text).collect();
    let rules = match args.all {
        true => "all rules".into(),
        false => rules.join(" and "),
    };
    let backends = view::count(report.backends, "backend");
    view::sentence(match (report.backends, report.others) {
        (_, 0) => format!("deleted {backends} of {rules}"),
        (0, _) => format!("deleted {rules}"),
        (_, others) => {
            let others = view::count(others, "rule");
            format!("deleted {backends}, and {others} without backends: {rules}")
        }
    })?;
    view::answers::say(&report.for_answers)
}

#[derive(Serialize)]
struct Marked {
    server: IpAddr,
    mark: &'static str,
    rules: usize,
    changed: usize,
    #[serde(flatten)]
    for_answers: ForAnswers,
}

fn mark(global: &Global, pins: &Pins, args: &RuleMark) -> Result<()> {
    let (server, is_down) = (args.server, args.mark == ServerMark::Down);
    let report = control::mark(pins, server, &(&args.rules).into(), is_down)?;
    let mark = if is_down { "down" } else { "up" };
    if global.json {
        return view::json::print(&Marked {
            server,
            mark,
            rules: report.rules,
            changed: report.changed,
            for_answers: report.for_answers,
        });
    }
    let rules = view::count(report.rules, "rule");
    let already = match report.changed {
        0 => ", as it was",
        _ => "",
    };
    view::sentence(format!("{server} is marked {mark} in {rules}{already}"))?;
    view::answers::say(&report.for_answers)
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
        view::answers::say(&report.for_answers)?;
    }
    let all = report.failed.is_empty();
    Ok(ExitCode::from(if all { 0 } else { Exit::Failed as u8 }))
}
