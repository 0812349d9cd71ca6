//! `xdpredir rollback`

use std::process::ExitCode;

use anyhow::Result;

use super::grammar::{self, Global};
use super::pins;
use xdpredir::control::{self, MissingInterface, RollbackReport, RollbackTo};
use xdpredir::error::Exit;
use xdpredir::view;

pub fn run(global: &Global, args: &grammar::Rollback) -> Result<ExitCode> {
    let pins = pins(global)?;
    let to = match (args.unless_confirmed, args.revision) {
        (Some(token), _) => RollbackTo::Unconfirmed(token),
        (None, Some(revision)) => RollbackTo::Revision(revision),
        (None, None) => RollbackTo::Last,
    };
    let Some(report) = control::rollback(&pins, to)? else {
        return nothing(global);
    };
    for failed in &report.refresh.failed {
        view::complaint(format_args!("xdpredir: {}", view::refresh::failed(failed)));
    }
    for MissingInterface { ifname, error } in &report.missing {
        view::complaint(format_args!(
            "xdpredir: {ifname} is not attached again: {error}"
        ));
    }
    match global.json {
        true => json(&report)?,
        false => text(&report)?,
    }
    let all = report.refresh.failed.is_empty() && report.missing.is_empty();
    Ok(ExitCode::from(if all { 0 } else { Exit::Failed as u8 }))
}

/// Somebody has confirmed the change, or it is gone already.
fn nothing(global: &Global) -> Result<ExitCode> {
    match global.json {
        true => view::json::print(&serde_json::json!({ "to": null }))?,
        false => view::sentence("there is nothing to take back")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn json(report: &RollbackReport) -> Result<()> {
    let RollbackReport {
        to,
        revision,
        changes,
        refresh,
        missing,
    } = report;
    let mut json = serde_json::json!({
        "to": to,
        "revision": revision,
        "added": changes.added,
        "changed": changes.changed,
        "deleted": changes.deleted,
        "interfaces_changed": changes.interfaces_changed,
        "interfaces": changes.interfaces,
        "missing": missing,
    });
    view::json::extend(&mut json, refresh)?;
    view::json::print(&json)
}

fn text(report: &RollbackReport) -> Result<()> {
    let RollbackReport { to, revision, .. } = report;
    if report.changes.is_empty() {
        return view::sentence(format_args!("all is as after revision {to} already"));
    }
    let changes = view::history::counts(&report.changes);
    view::sentence(format_args!(
        "all is as after revision {to} again: {changes}; that is revision {revision}"
    ))?;
    let mut refreshed = report
        .refresh
        .refreshed
        .iter()
        .map(view::refresh::refreshed);
    refreshed.try_for_each(view::sentence)?;
    view::answers::say(&report.refresh.for_answers)
}
