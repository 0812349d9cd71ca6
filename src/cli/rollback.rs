//! `xdpredir rollback`

use std::process::ExitCode;

use anyhow::Result;

use super::grammar::{self, Global};
use super::pins;
use xdpredir::control::{self, RollbackReport};
use xdpredir::error::Exit;
use xdpredir::view;

pub fn run(global: &Global, args: &grammar::Rollback) -> Result<ExitCode> {
    let report = control::rollback(&pins(global)?, args.revision)?;
    for failed in &report.refresh.failed {
        view::complaint(format_args!("xdpredir: {}", view::refresh::failed(failed)));
    }
    match global.json {
        true => json(&report)?,
        false => text(&report)?,
    }
    let all = report.refresh.failed.is_empty();
    Ok(ExitCode::from(if all { 0 } else { Exit::Failed as u8 }))
}

fn json(report: &RollbackReport) -> Result<()> {
    let RollbackReport {
        to,
        revision,
        changes,
        refresh,
    } = report;
    let mut json = serde_json::json!({
        "to": to,
        "revision": revision,
        "added": changes.added,
        "changed": changes.changed,
        "deleted": changes.deleted,
    });
    view::json::extend(&mut json, refresh)?;
    view::json::print(&json)
}

fn text(report: &RollbackReport) -> Result<()> {
    let RollbackReport { to, revision, .. } = report;
    if report.changes.count() == 0 {
        return view::sentence(format_args!("the rules are those of revision {to} already"));
    }
    let changes = view::history::counts(&report.changes);
    view::sentence(format_args!(
        "the rules are those of revision {to} again: {changes}; that is revision {revision}"
    ))?;
    let mut refreshed = report
        .refresh
        .refreshed
        .iter()
        .map(view::refresh::refreshed);
    refreshed.try_for_each(view::sentence)?;
    view::answers::say(&report.refresh.for_answers)
}
