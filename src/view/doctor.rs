//! What the checks found.

use std::io::stdout;

use serde::Serialize;

use super::escape::escape;
use super::remedy::Shell;
use super::style::{self, Tone};
use super::terminal;
use super::units::count;
use crate::model::{Finding, LookedAt, Severity, Verb};

/// A finding as scripts read it, with its keys in the order that they always had.
#[derive(Serialize)]
pub struct Row {
    #[serde(flatten)]
    finding: Finding,
    mend: String,
    fixable: bool,
    fixed: bool,
}

impl Row {
    /// With commands that do what is meant in this shell.
    pub fn new(finding: &Finding, shell: &Shell) -> Self {
        Row {
            finding: finding.clone(),
            mend: shell.text(&finding.remedy),
            fixable: finding.fix.is_some(),
            fixed: finding.fixed,
        }
    }
}

/// A finding on one line.
pub fn sentence(finding: &Finding, shell: &Shell) -> String {
    let remedy = shell.sentence(&finding.remedy);
    format!(
        "{}: {} ({}): {remedy}",
        finding.subject, finding.consequence, finding.evidence
    )
}

/// What begins a finding's line, and indents its further ones.
const SEVERITY: usize = 9;

/// One line each, then a line that counts them.
pub fn findings(findings: &[Finding], looked_at: &LookedAt, shell: &Shell) -> String {
    let lines = findings.iter();
    let lines = lines.map(|finding| (line(finding, shell), SEVERITY));
    let lines = lines.chain([(summary(findings, looked_at, shell), 2)]);
    let fit = |(line, indent): (String, usize)| terminal::fit(&line, indent, stdout()) + "\n";
    lines.map(fit).collect()
}

fn line(finding: &Finding, shell: &Shell) -> String {
    if finding.fixed {
        let text = format!("{}: {}", finding.subject, finding.evidence);
        return format!("{:<SEVERITY$}{}", "fixed", escape(&text));
    }
    let (word, tone) = match finding.severity {
        Severity::Problem => ("problem", Some(Tone::Bad)),
        Severity::Warning => ("warning", Some(Tone::Doubtful)),
        Severity::Hint => ("hint", None),
    };
    let gap = " ".repeat(SEVERITY - word.len());
    let painted = tone.map(|tone| style::paint(word, tone, &stdout()));
    let word = painted.unwrap_or(word.into());
    format!("{word}{gap}{}", escape(&sentence(finding, shell)))
}

fn summary(findings: &[Finding], looked_at: &LookedAt, shell: &Shell) -> String {
    let left = || findings.iter().filter(|finding| !finding.fixed);
    let of = |severity| left().filter(|f| f.severity == severity).count();
    let problems = of(Severity::Problem);
    let further = |severity, word| match of(severity) {
        0 => String::new(),
        found => format!(", {}", count(found, word)),
    };
    let warnings = further(Severity::Warning, "warning") + &further(Severity::Hint, "hint");
    if problems == 0 {
        return format!(
            "no problems found{warnings}: looked at {}",
            in_words(looked_at)
        );
    }
    let doctor = shell.sentence(&Verb::DoctorFix.into());
    let fixable = match left().filter(|finding| finding.fix.is_some()).count() {
        0 => String::new(),
        fixable => format!("; {doctor} can fix {fixable}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_finding_stay_in_their_order() {
        let shell = Shell {
            own: Vec::new(),
            words: |_| Vec::new(),
            netns: None,
        };
        let row = Row::new(&Finding::problem("link", "veth0"), &shell);
        assert_eq!(
            serde_json::to_string(&row).expect("JSON"),
            r#"{"check":"link","severity":"problem","subject":"veth0","consequence":"","evidence":"","mend":"","fixable":false,"fixed":false}"#
        );
    }
}
