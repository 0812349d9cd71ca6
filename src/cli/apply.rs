//! `xdpredir apply` and `xdpredir diff`

use std::env;
use std::ffi::OsString;
use std::path::{self, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

use super::grammar::{self, Global};
use super::{attach, doctor, load, pins, warnings};
use xdpredir::control::{
    self, ApplyReport, ApplyRequest, Difference, Names, Pins, RuleCounts, TrialRequest,
};
use xdpredir::error::Exit;
use xdpredir::model::difference::{Change, Operation};
use xdpredir::model::{AnswerInterface, Change as Reverted, Remedy, Unfound, Verb};
use xdpredir::view::{self, doctor::Row};

#[derive(Serialize)]
struct Applied<'a> {
    rules: RuleCounts,
    changes: Vec<Operation>,
    missing: &'a [Unfound],
    attached: &'a [AnswerInterface],
    detached: &'a [String],
    warnings: Option<Vec<Row>>,
    on_trial: bool,
}

pub fn run(global: &Global, args: &grammar::Apply) -> Result<ExitCode> {
    let pins = pins(global)?;
    if args.confirmed {
        return confirm(global, &pins);
    }
    let request = request(&args.files, &args.reading);
    let bar = load::progress(0)?;
    let progress = |read, of| load::show(&bar, read, of);
    if args.dry_run {
        let difference = control::diff(&pins, &request, progress)?;
        bar.finish_and_clear();
        show(global, &difference)?;
        return Ok(code(&difference.missing));
    }
    let take_back = |netns, token| take_back(global, netns, token);
    let on_trial = args.confirm.map(|within| TrialRequest {
        within,
        take_back: &take_back,
    });
    let report = control::apply(&pins, &request, on_trial.as_ref(), progress);
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
            on_trial: report.on_trial,
        })?,
        false => tell(global, &report)?,
    }
    if let Some(within) = args.confirm.filter(|_| report.on_trial) {
        let within = humantime::format_duration(within);
        let remedy = Remedy::from(Verb::Confirm) + " keeps it";
        warnings::warn(
            global,
            &(format!("this is taken back in {within}"), remedy).into(),
        );
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

/// The command that takes a change back which nobody has confirmed.
fn take_back(global: &Global, netns: Option<PathBuf>, token: u64) -> Result<Vec<OsString>> {
    let program = env::current_exe().context("cannot find out where this program is")?;
    let mut argv = vec![program.into_os_string()];
    if let Some(netns) = netns {
        argv.extend(["--netns".into(), netns.into()]);
    }
    if let Some(directory) = &global.pin_dir {
        argv.extend(["--pin-dir".into(), path::absolute(directory)?.into()]);
    }
    argv.extend(["rollback", "--unless-confirmed"].map(OsString::from));
    argv.push(token.to_string().into());
    Ok(argv)
}

fn confirm(global: &Global, pins: &Pins) -> Result<ExitCode> {
    let revision = control::confirm(pins)?;
    match global.json {
        true => view::json::print(&serde_json::json!({ "confirmed": revision }))?,
        false => view::sentence(format_args!("revision {revision} stays"))?,
    }
    Ok(ExitCode::SUCCESS)
}

pub fn diff(global: &Global, args: &grammar::Diff) -> Result<ExitCode> {
    let bar = load::progress(0)?;
    let request = request(&args.files, &args.reading);
    let difference = control::diff(&pins(global)?, &request, |read, of| {
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

fn request(files: &[PathBuf], reading: &grammar::Reading) -> ApplyRequest {
    ApplyRequest {
        files: files.to_vec(),
        src: reading.src,
        partial: reading.partial,
        keep_others: reading.keep_others,
    }
}
