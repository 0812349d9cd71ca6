//! What the checks found.

use super::human::count;
use crate::model::{Finding, Severity};

/// How many of each the checks looked at.
pub struct LookedAt {
    pub interfaces: usize,
    pub rules: usize,
    pub servers: usize,
    pub egress_devices: usize,
}

/// One line each, then a line that counts them.
pub fn findings(findings: &[Finding], looked_at: &LookedAt) -> String {
    let lines: String = findings.iter().map(line).collect();
    lines + &summary(findings, looked_at)
}

fn line(finding: &Finding) -> String {
    if finding.fixed {
        return format!("mended   {}: {}\n", finding.subject, finding.evidence);
    }
    format!("{:<8} {finding}\n", finding.severity)
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
            "no problems found{warnings}: looked at {}\n",
            in_words(looked_at)
        );
    }
    let fixable = left().filter(|finding| finding.fixable).count();
    let fixable = match fixable {
        0 => String::new(),
        _ => format!("; `xdpredir doctor --fix` can mend {fixable}"),
    };
    format!("{}{warnings}{fixable}\n", count(problems, "problem"))
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
