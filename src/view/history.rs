//! The changes of the rules.

use std::ffi::OsString;
use std::time::{Duration, UNIX_EPOCH};

use humantime::format_rfc3339_seconds;
use serde::Serialize;

use super::columns::Columns;
use super::remedy::quoted;
use super::units;
use crate::model::{Changes, How, Match, NamedChange, PastRevision};

/// A change as scripts read it.
#[derive(Serialize)]
pub struct Row<'a> {
    revision: u64,
    time: String,
    uid: u32,
    user: Option<&'a str>,
    command: String,
    added: usize,
    changed: usize,
    deleted: usize,
    rules: Vec<RuleRow<'a>>,
    reachable: bool,
}

#[derive(Serialize)]
struct RuleRow<'a> {
    how: How,
    #[serde(flatten)]
    matches: &'a Match,
    #[serde(rename = "in")]
    ingress: Option<&'a str>,
}

impl<'a> Row<'a> {
    pub fn new(past: &'a PastRevision) -> Self {
        let changes = &past.revision.changes;
        let rule = |rule: &'a NamedChange| RuleRow {
            how: rule.how,
            matches: &rule.matches,
            ingress: rule.ingress.as_deref(),
        };
        Row {
            revision: past.revision.revision,
            time: time(past),
            uid: past.revision.author.uid,
            user: past.user.as_deref(),
            command: command(past),
            added: changes.added,
            changed: changes.changed,
            deleted: changes.deleted,
            rules: past.rules.iter().map(rule).collect(),
            reachable: past.reachable,
        }
    }
}

/// One row a change.
pub fn table(all: &[PastRevision]) -> String {
    if all.is_empty() {
        return "no changes are kept\n".into();
    }
    Columns::of(all)
        .number("revision", |past| past.revision.revision.to_string())
        .text("time", time)
        .text("user", user)
        .values("changes", changes)
        .text("command", command)
        .lines(&["user", "time"])
}

fn time(past: &PastRevision) -> String {
    // What somebody else wrote into the map may be no time.
    let most = Duration::from_secs(253_402_300_799);
    let time = Duration::from_secs(past.revision.time).min(most);
    format_rfc3339_seconds(UNIX_EPOCH + time).to_string()
}

fn user(past: &PastRevision) -> String {
    let uid = || past.revision.author.uid.to_string();
    past.user.clone().unwrap_or_else(uid)
}

fn command(past: &PastRevision) -> String {
    let words = past.revision.author.command.iter();
    quoted(words.map(OsString::from))
}

/// A line for each rule, or how many there are.
fn changes(past: &PastRevision) -> Vec<String> {
    if past.rules.is_empty() {
        return vec![counts(&past.revision.changes)];
    }
    let rule = |rule: &NamedChange| {
        let matches = rule.matches.named(rule.ingress.as_deref());
        format!("{} {matches}", rule.how.name())
    };
    past.rules.iter().map(rule).collect()
}

/// How many rules changed, in words.
pub fn counts(changes: &Changes) -> String {
    let counts = [
        (changes.added, How::Added),
        (changes.changed, How::Changed),
        (changes.deleted, How::Deleted),
    ];
    let some = counts.into_iter().filter(|(count, _)| *count > 0);
    let words = some.map(|(count, how)| format!("{} {}", units::count(count, "rule"), how.name()));
    words.collect::<Vec<_>>().join(", ")
}
