//! The changes of the rules.

use std::ffi::OsString;
use std::time::{Duration, UNIX_EPOCH};

use humantime::format_rfc3339_seconds;
use serde::Serialize;

use super::columns::Columns;
use super::remedy::quoted;
use super::units;
use crate::model::{ChangedInterface, Changes, How, Match, NamedChange, PastRevision};

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
    interfaces_changed: usize,
    interfaces: &'a [ChangedInterface],
    reachable: bool,
    unconfirmed: bool,
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
            interfaces_changed: changes.interfaces_changed,
            interfaces: &changes.interfaces,
            reachable: past.reachable,
            unconfirmed: past.unconfirmed,
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

/// A line for each interface and each rule, or how many there are.
fn changes(past: &PastRevision) -> Vec<String> {
    let changes = &past.revision.changes;
    let mut lines = interfaces(changes, |i| {
        format!("{} interface {}", i.how.name(), i.ifname)
    });
    if past.rules.is_empty() {
        lines.extend(rule_counts(changes));
    }
    let rule = |rule: &NamedChange| {
        let matches = rule.matches.named(rule.ingress.as_deref());
        format!("{} {matches}", rule.how.name())
    };
    lines.extend(past.rules.iter().map(rule));
    lines.extend(past.unconfirmed.then(|| "not confirmed yet".into()));
    lines
}

/// What is to be said of each interface, or how many there are where they are not named.
fn interfaces(changes: &Changes, say: impl Fn(&ChangedInterface) -> String) -> Vec<String> {
    let count = changes.interfaces_changed;
    if changes.interfaces.is_empty() && count > 0 {
        return vec![format!("{} changed", units::count(count, "interface"))];
    }
    changes.interfaces.iter().map(say).collect()
}

fn rule_counts(changes: &Changes) -> Vec<String> {
    let counts = [
        (changes.added, How::Added),
        (changes.changed, How::Changed),
        (changes.deleted, How::Deleted),
    ];
    let some = counts.into_iter().filter(|(count, _)| *count > 0);
    some.map(|(count, how)| format!("{} {}", units::count(count, "rule"), how.name()))
        .collect()
}

/// How many rules changed, and which interfaces, or how many of these.
pub fn counts(changes: &Changes) -> String {
    let mut all = interfaces(changes, |i| {
        format!("interface {} {}", i.ifname, i.how.name())
    });
    all.extend(rule_counts(changes));
    all.join(", ")
}
