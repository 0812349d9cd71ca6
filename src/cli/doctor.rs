//! `xdpredir doctor`

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stderr, stdin};
use std::process::ExitCode;

use anyhow::Result;

use super::grammar::{self, Global};
use super::{explain, suggest, warnings};
use xdpredir::datapath::{self, Lock, Pins};
use xdpredir::doctor::checks;
use xdpredir::doctor::facts::Facts;
use xdpredir::doctor::{self, Reverted};
use xdpredir::error::{Exit, failure};
use xdpredir::model::{Change, Finding, Severity};
use xdpredir::view;
use xdpredir::view::doctor::{LookedAt, Row};

pub fn run(global: &Global, args: &grammar::Doctor) -> Result<ExitCode> {
    let pins = datapath::locate(global.pin_dir.as_deref())?;
    if args.undo {
        return undo(global, &pins);
    }
    if args.fix && !args.yes && (global.json || !stdin().is_terminal()) {
        let message = "doctor --fix asks before it changes anything, which it can only on a terminal and without --json: --yes answers";
        return Err(failure(Exit::Usage, message));
    }
    let facts = doctor::whole(&pins)?;
    let found = checks::all(&facts);
    let fixable = found.iter().filter(|finding| finding.fix.is_some()).count();
    if !args.fix || fixable == 0 {
        return report(global, &found, &facts);
    }
    if !args.yes {
        let code = report(global, &found, &facts)?;
        if !confirm(fixable)? {
            return Ok(code);
        }
    }
    let fixed = doctor::fix(&pins, &found)?;
    complain(global, &fixed.errors);
    if !global.json {
        print_changes("fixed", fixed.changes.iter().map(Change::to_string))?;
    }
    let facts = doctor::whole(&pins)?;
    let left = without(&found, checks::all(&facts));
    if global.json {
        return report(global, &with_fixed(found, left), &facts);
    }
    report(global, &left, &facts)
}

/// What has been tried in vain is not offered again.
fn without(tried: &[Finding], mut left: Vec<Finding>) -> Vec<Finding> {
    for finding in &mut left {
        if tried.iter().any(|other| other.fix == finding.fix) {
            finding.fix = None;
        }
    }
    left
}

fn confirm(fixable: usize) -> Result<bool> {
    write!(stderr(), "Fix {fixable} now? [y/N] ")?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn report(global: &Global, findings: &[Finding], facts: &Facts) -> Result<ExitCode> {
    let shell = suggest::shell(global);
    if global.json {
        let row = |finding| Row::new(finding, &shell);
        view::json::print(&findings.iter().map(row).collect::<Vec<_>>())?;
    } else {
        let looked_at = LookedAt {
            interfaces: facts.interfaces.len(),
            rules: facts.rules.len(),
            servers: facts.backends.len(),
            egress_devices: facts.egress().count(),
        };
        view::text(view::doctor::findings(findings, &looked_at, &shell))?;
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
        print_changes("reverted", undone.changes.iter().map(Change::undone))?;
    }
    Ok(report_reverted(global, &undone))
}

/// What could not be reverted makes the exit code 1.
pub fn report_reverted(global: &Global, undone: &Reverted) -> ExitCode {
    complain(global, &undone.errors);
    if undone.errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Exit::Failed as u8)
    }
}

/// What was changed alike in many rules is said once.
pub fn print_changes(what: &str, changes: impl IntoIterator<Item = String>) -> Result<()> {
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

fn complain(global: &Global, errors: &[anyhow::Error]) {
    let refusals = errors.iter().map(explain::explained);
    refusals.for_each(|refusal| warnings::complain(global, &refusal));
}
