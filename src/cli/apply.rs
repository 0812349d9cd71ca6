//! `xdpredir apply` and `xdpredir diff`

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use super::grammar::{self, Global};
use super::{attach, doctor, load, pins, warnings};
use xdpredir::control::{self, ApplyReport, ApplyRequest, Difference, Names, RuleCounts};
use xdpredir::error::Exit;
use xdpredir::model::difference::{Change, Operation};
use xdpredir::model::{AnswerInterface, Change as Reverted, Unfound};
use xdpredir::view::{self, doctor::Row};

#[derive(Serialize)]
struct Applied<'a> {
    rules: RuleCounts,
    changes: Vec<Operation>,
    missing: &'a [Unfound],
    attached: &'a [AnswerInterface],
    detached: &'a [String],
    warnings: Option<Vec<Row>>,
}

pub fn run(global: &Global, args: &grammar::Apply) -> Result<ExitCode> {
    let pins = pins(global)?;
    let request = (&args.files).into();
    let bar = load::progress(0)?;
    let progress = |read, of| load::show(&bar, read, of);
    if args.dry_run {
        let difference = control::diff(&pins, &request, progress)?;
        bar.finish_and_clear();
        show(global, &difference)?;
        return Ok(code(&difference.missing));
    }
    let report = control::apply(&pins, &request, progress);
    bar.finish_and_clear();
    let report = report?;
    complain(&report.missing);
    warnings::untranslated(global, &report.untranslated);
    let warnings = warnings::say(global, &report.warnings);
    match global.json {
        true => view::json::print(&Applied {
            rules: report.rules,
            changes: report.changes.iter().flat_map(Change::operations).collect(),
            missing: &report.missing,
            attached: &report.for_answers.attached,
            detached: &report.for_answers.detached,
            warnings,
        })?,
        false => tell(global, &report)?,
    }
    let reverted = doctor::report_reverted(global, &report.reverted);
    Ok(match report.missing.is_empty() {
        true => reverted,
        false => code(&report.missing),
    })
}

fn tell(global: &Global, report: &ApplyReport) -> Result<()> {
    let mounted = report.mounted.map(|at| format!("mounted a bpffs at {at}"));
    mounted.iter().try_for_each(view::sentence)?;
    view::difference::say(report.changes.iter().cloned())?;
    let RuleCounts {
        added,
        changed,
        removed,
        same,
    } = report.rules;
    let told = report
        .changes
        .iter()
        .filter(|change| matches!(change, Change::Rule { .. }));
    let left = (added + changed + removed).saturating_sub(told.count());
    if left > 0 {
        view::sentence(format_args!("… and {}", view::count(left, "rule")))?;
    }
    let mut new = report.attached.iter().filter(|attached| !attached.already);
    new.try_for_each(|attached| attach::describe(global, attached))?;
    let reverted = report.reverted.changes.iter().map(Reverted::undone);
    doctor::print_changes("reverted", reverted)?;
    let rules = view::count(same, "rule");
    view::sentence(match report.changes.is_empty() {
        true => format!("nothing to change: {rules}"),
        _ => {
            format!("rules: {added} added, {changed} changed, {removed} removed, {same} as before")
        }
    })?;
    view::answers::say(&report.for_answers)
}

pub fn diff(global: &Global, args: &grammar::Files) -> Result<ExitCode> {
    let bar = load::progress(0)?;
    let difference = control::diff(&pins(global)?, &args.into(), |read, of| {
        load::show(&bar, read, of)
    });
    bar.finish_and_clear();
    let difference = difference?;
    show(global, &difference)?;
    Ok(match difference.is_empty() {
        false => ExitCode::from(Exit::Problems as u8),
        true => code(&difference.missing),
    })
}

fn show(global: &Global, difference: &Difference) -> Result<()> {
    complain(&difference.missing);
    let mut names = Names::default();
    let changes = difference.changes(&mut names);
    match global.json {
        true => view::json::print_all(changes.flat_map(|change| change.operations())),
        false if difference.is_empty() => {
            let rules = view::count(difference.counts().same, "rule");
            view::sentence(format_args!("no difference: {rules}"))
        }
        false => view::difference::say(changes),
    }
}

/// What could not be found, one a line.
fn complain(missing: &[Unfound]) {
    missing
        .iter()
        .for_each(|missing| view::complaint(format_args!("xdpredir: {missing}")));
}

fn code(missing: &[Unfound]) -> ExitCode {
    match missing.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Exit::Failed as u8),
    }
}

impl From<&grammar::Files> for ApplyRequest {
    fn from(args: &grammar::Files) -> Self {
        ApplyRequest {
            files: args.files.clone(),
            src: args.src,
            partial: args.partial,
            keep_others: args.keep_others,
        }
    }
}
