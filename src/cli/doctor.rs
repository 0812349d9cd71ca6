//! `xdpredir doctor`

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write, stderr, stdin};
use std::process::ExitCode;

use anyhow::Result;

use super::grammar::{self, Global};
use super::{failed, pins, suggest, warnings};
use xdpredir::control::{self, Recheck, Reverted};
use xdpredir::error::{Exit, failure};
use xdpredir::model::{Change, Diagnosis, Finding, Fix, Severity};
use xdpredir::view::{self, doctor::Row};

pub fn run(global: &Global, args: &grammar::Doctor) -> Result<ExitCode> {
    let pins = pins(global)?;
    if args.undo {
        return undo(global, &control::revert(&pins)?);
    }
    if args.fix && !args.yes && (global.json || !stdin().is_terminal()) {
        let message = "doctor --fix asks before it changes anything, which it can only on a terminal and without --json: --yes answers";
        return Err(failure(Exit::Usage, message));
    }
    let found = control::diagnose(&pins)?;
    let fixes: Vec<&Fix> = found
        .findings
        .iter()
        .filter_map(|f| f.fix.as_ref())
        .collect();
    if !args.fix || fixes.is_empty() {
        return report(global, &found);
    }
    if !args.yes {
        let code = report(global, &found)?;
        if !confirm(&fixes)? {
            return Ok(code);
        }
    }
    let fixed = control::fix(&pins, &found.findings)?;
    complain(global, &fixed.errors);
    if !global.json {
        print_changes("fixed", fixed.changes.iter().map(Change::to_string))?;
        view::answers::say(&fixed.for_answers)?;
    }
    let Recheck { fixed, mut left } = control::recheck(&pins, found.findings)?;
    if global.json {
        left.findings.splice(..0, fixed);
    }
    report(global, &left)
}

/// Asks, once all that would be changed is said.
fn confirm(fixes: &[&Fix]) -> Result<bool> {
    let changes: BTreeSet<String> = fixes.iter().map(ToString::to_string).collect();
    for change in changes {
        view::notice(format_args!("would change: {change}"));
    }
    let fixable = fixes.len();
    write!(stderr(), "Fix {fixable} now? [y/N] ")?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn report(global: &Global, diagnosis: &Diagnosis) -> Result<ExitCode> {
    let Diagnosis {
        findings,
        looked_at,
    } = diagnosis;
    let shell = suggest::shell(global);
    if global.json {
        let row = |finding| Row::new(finding, &shell);
        view::json::print(&findings.iter().map(row).collect::<Vec<_>>())?;
    } else {
        view::text(view::doctor::findings(findings, looked_at, &shell))?;
    }
    let is_left = |finding: &Finding| finding.severity == Severity::Problem && !finding.fixed;
    Ok(if findings.iter().any(is_left) {
        ExitCode::from(Exit::Problems as u8)
    } else {
        ExitCode::SUCCESS
    })
}

fn undo(global: &Global, reverted: &Reverted) -> Result<ExitCode> {
    let mut changes = reverted.changes.iter().map(Change::undone);
    if global.json {
        let changes: Vec<String> = changes.collect();
        view::json::print(&serde_json::json!({ "undone": changes }))?;
    } else if changes.len() == 0 && reverted.errors.is_empty() {
        view::sentence("nothing to undo")?;
    } else {
        print_changes("reverted", &mut changes)?;
        view::answers::say(&reverted.for_answers)?;
    }
    Ok(report_reverted(global, reverted))
}

/// What could not be reverted makes the exit code 1.
pub fn report_reverted(global: &Global, reverted: &Reverted) -> ExitCode {
    complain(global, &reverted.errors);
    if reverted.errors.is_empty() {
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
    let refusals = errors.iter().map(failed::explained);
    refusals.for_each(|refusal| warnings::complain(global, &refusal));
}
