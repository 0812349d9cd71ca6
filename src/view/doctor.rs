//! What the checks found.

use std::io::stdout;

use super::style::{self, Tone};
use super::terminal;
use super::units::count;
use crate::model::{Finding, Severity};

/// How many of each the checks looked at.
pub struct LookedAt {
    pub interfaces: usize,
    pub rules: usize,
    pub servers: usize,
    pub egress_devices: usize,
}

/// What begins a finding's line, and indents its further ones.
const SEVERITY: usize = 9;

/// One line each, then a line that counts them.
pub fn findings(findings: &[Finding], looked_at: &LookedAt) -> String {
    let lines = findings.iter().map(|finding| (line(finding), SEVERITY));
    let lines = lines.chain([(summary(findings, looked_at), 2)]);
    let fit = |(line, indent): (String, usize)| terminal::fit(&line, indent, stdout()) + "\n";
    lines.map(fit).collect()
}

fn line(finding: &Finding) -> String {
    if finding.fixed {
        return format!(
            "{:<SEVERITY$}{}: {}",
            "mended", finding.subject, finding.evidence
        );
    }
    let (word, tone) = match finding.severity {
        Severity::Problem => ("problem", Tone::Bad),
        Severity::Warning => ("warning", Tone::Doubtful),
    };
    let gap = " ".repeat(SEVERITY - word.len());
    format!("{}{gap}{finding}", style::paint(word, tone, &stdout()))
}

fn summary(findings: &[Finding], looked_at: &LookedAt) -> String {
    let left = || findings.iter().filter(|finding| !finding.fixed);
    let of = |severity| left().filter(|f| f.severity == severity).count();
    let (problems, warnings) = (of(Severity::Problem), of(Severity::Warning));
    let warnings = match warnings {
        0 => String::new(),
        _ => format!(", {}", count(warnings, "warning")),
    };
    if problems == 0 {
        return format!(
            "no problems found{warnings}: looked at {}",
            in_words(looked_at)
        );
    }
    let fixable = left().filter(|finding| finding.fixable).count();
    let fixable = match fixable {
        0 => String::new(),
        _ => format!("; `doctor --fix` can mend {fixable}"),
    };
    format!("{}{warnings}{fixable}", count(problems, "problem"))
}

fn in_words(looked_at: &LookedAt) -> String {
    if looked_at.interfaces == 0 && looked_at.rules == 0 {
        return "the host; nothing is attached in this network namespace".into();
    }
    format!(
        "the host, {}, {}, {} and {}",
        count(looked_at.interfaces, "interface"),
        count(looked_at.rules, "rule"),
        count(looked_at.servers, "server"),
        count(looked_at.egress_devices, "egress device")
    )
}
