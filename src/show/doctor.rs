//! What the checks found.

use crate::checks::Setup;
use crate::model::{Finding, Severity};

/// One line each, then a line that counts them.
pub fn findings(findings: &[Finding], setup: &Setup) -> String {
    let lines: String = findings.iter().map(line).collect();
    lines + &summary(findings, setup)
}

fn line(finding: &Finding) -> String {
    if finding.fixed {
        return format!("mended   {}: {}\n", finding.subject, finding.evidence);
    }
    format!("{:<8} {finding}\n", finding.severity)
}

fn summary(findings: &[Finding], setup: &Setup) -> String {
    let left = || findings.iter().filter(|finding| !finding.fixed);
    let of = |severity| left().filter(|f| f.severity == severity).count();
    let (problems, warnings) = (of(Severity::Problem), of(Severity::Warning));
    let warnings = match warnings {
        0 => String::new(),
        _ => format!(", {}", count(warnings, "warning")),
    };
    if problems == 0 {
        return format!(
            "no problems found{warnings}: looked at {}\n",
            looked_at(setup)
        );
    }
    let fixable = left().filter(|finding| finding.fixable).count();
    let fixable = match fixable {
        0 => String::new(),
        _ => format!("; `xdpredir doctor --fix` can mend {fixable}"),
    };
    format!("{}{warnings}{fixable}\n", count(problems, "problem"))
}

fn looked_at(setup: &Setup) -> String {
    if setup.interfaces.is_empty() && setup.matches.is_empty() {
        return "the host; nothing is attached in this network namespace".into();
    }
    format!(
        "the host, {}, {}, {} and {}",
        count(setup.interfaces.len(), "interface"),
        count(setup.matches.len(), "rule"),
        count(setup.backends.len(), "server"),
        count(setup.egress().count(), "egress device")
    )
}

pub fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
