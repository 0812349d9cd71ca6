//! `xdpredir doctor`

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stderr, stdin};
use std::process::ExitCode;

use anyhow::Result;

use super::grammar::{self, Global};
use super::paste;
use xdpredir::datapath::{self, Lock, Pins};
use xdpredir::doctor::checks;
use xdpredir::doctor::facts::Facts;
use xdpredir::doctor::{self, Reverted};
use xdpredir::error::{Exit, failure, one_line};
use xdpredir::model::{Change, Finding, Severity};
use xdpredir::view;
use xdpredir::view::doctor::LookedAt;

pub fn run(global: &Global, args: &grammar::Doctor) -> Result<ExitCode> {
    let pins = datapath::locate(global.pin_dir.as_deref())?;
    if args.undo {
        return undo(global, &pins);
    }
    if args.fix && !args.yes && (global.json || !stdin().is_terminal()) {
        let message = "doctor --fix asks before it changes anything, which it can only on a terminal and without --json: --yes answers";
        return Err(failure(Exit::Usage, message));
    }
    let setup = doctor::whole(&pins)?;
    let found = findings(global, &setup);
    let fixable = found.iter().filter(|finding| finding.fixable).count();
    if !args.fix || fixable == 0 {
        return report(global, &found, &setup);
    }
    if !args.yes {
        let code = report(global, &found, &setup)?;
        if !agreed(fixable)? {
            return Ok(code);
        }
    }
    let mended = doctor::fix(&pins, &found)?;
    complain(&mended.errors);
    if !global.json {
        said("mended", mended.changes.iter().map(Change::to_string))?;
    }
    let setup = doctor::whole(&pins)?;
    let left = without(&found, findings(global, &setup));
    if global.json {
        return report(global, &with_fixed(found, left), &setup);
    }
    report(global, &left, &setup)
}

fn findings(global: &Global, setup: &Facts) -> Vec<Finding> {
    let mut findings = checks::all(setup);
    paste::complete_mends(global, &mut findings);
    findings
}

/// What has been tried in vain is not offered again.
fn without(tried: &[Finding], mut left: Vec<Finding>) -> Vec<Finding> {
    for finding in &mut left {
        if tried.iter().any(|other| other.fix == finding.fix) {
            (finding.fix, finding.fixable) = (None, false);
        }
    }
    left
}

fn agreed(fixable: usize) -> Result<bool> {
    write!(stderr(), "Mend {fixable} now? [y/N] ")?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn report(global: &Global, findings: &[Finding], setup: &Facts) -> Result<ExitCode> {
    if global.json {
        view::json::print(&findings)?;
    } else {
        let looked_at = LookedAt {
            interfaces: setup.interfaces.len(),
            rules: setup.rules.len(),
            servers: setup.backends.len(),
            egress_devices: setup.egress().count(),
        };
        view::text(view::doctor::findings(findings, &looked_at))?;
    }
    let is_left = |finding: &Finding| finding.severity == Severity::Problem && !finding.fixed;
    Ok(if findings.iter().any(is_left) {
        ExitCode::from(Exit::Problems as u8)
    } else {
        ExitCode::SUCCESS
    })
}

/// What was found and is no more, then what is left.
fn with_fixed(found: Vec<Finding>, left: Vec<Finding>) -> Vec<Finding> {
    let is_gone = |finding: &Finding| !left.iter().any(|other| other.is_same(finding));
    let mut all: Vec<Finding> = found.into_iter().filter(is_gone).collect();
    all.iter_mut().for_each(|finding| finding.fixed = true);
    all.extend(left);
    all
}

fn undo(global: &Global, pins: &Pins) -> Result<ExitCode> {
    let lock = Lock::take(pins)?;
    let undone = doctor::undo(pins, &lock)?;
    if global.json {
        let changes: Vec<String> = undone.changes.iter().map(Change::undone).collect();
        view::json::print(&serde_json::json!({ "undone": changes }))?;
    } else if undone.changes.is_empty() && undone.errors.is_empty() {
        view::sentence("nothing to undo")?;
    } else {
        said("put back", undone.changes.iter().map(Change::undone))?;
    }
    Ok(told(&undone))
}

pub fn told(undone: &Reverted) -> ExitCode {
    complain(&undone.errors);
    if undone.errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Exit::Failed as u8)
    }
}

/// What was changed alike in many rules is said once.
pub fn said(what: &str, changes: impl IntoIterator<Item = String>) -> Result<()> {
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for change in changes {
        *lines.entry(change).or_default() += 1;
    }
    lines.iter().try_for_each(|(change, count)| {
        let rules = match count {
            1 => String::new(),
            count => format!(" in {count} rules"),
        };
        view::sentence(format_args!("{what}: {change}{rules}"))
    })
}

pub fn complain(errors: &[anyhow::Error]) {
    for error in errors {
        view::complaint(format_args!("xdpredir: {}", one_line(error)));
    }
}
