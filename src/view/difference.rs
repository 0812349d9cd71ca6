//! What differs between two rule sets, for people: a line begins with + where something comes, with - where
//! something goes, and with ~ where it changes.

use std::io::stdout;

use anyhow::Result;
use serde_json::Value;

use super::escape::escape;
use super::style::{self, Tone};
use super::{line, terminal};
use crate::model::difference::{Change, Op, Operation};

/// Prints each change when its turn comes.
pub fn say(changes: impl Iterator<Item = Change>) -> Result<()> {
    let is_colored = style::is_wanted(&stdout());
    for change in changes {
        for (op, text) in lines(&change) {
            let text = terminal::fit(&escape(&format!("{} {text}", sign(op))), 4, stdout());
            line(match is_colored {
                true => style::painted(&text, tone(op)),
                false => text,
            })?;
        }
    }
    Ok(())
}

fn sign(op: Op) -> char {
    match op {
        Op::Add => '+',
        Op::Remove => '-',
        Op::Replace => '~',
    }
}

fn tone(op: Op) -> Tone {
    match op {
        Op::Add => Tone::Good,
        Op::Remove => Tone::Bad,
        Op::Replace => Tone::Doubtful,
    }
}

/// The lines of a change: one for the whole, and one for each of its backends, or for each part that differs.
fn lines(change: &Change) -> Vec<(Op, String)> {
    let (op, operations) = (change.op(), change.operations());
    let name = match change {
        Change::Key { key, .. } => (*key).to_string(),
        Change::Interface { old, new } => {
            let name = old.as_ref().or(new.as_ref()).map(|one| &one.name);
            format!("interface {}", name.map_or("", String::as_str))
        }
        Change::Rule { matches, .. } => format!("rule {matches}"),
    };
    if let (Change::Key { .. }, [one]) = (change, &operations[..]) {
        return vec![(op, format!("{name}: {}", values(one)))];
    }
    if op == Op::Replace {
        let parts = operations
            .iter()
            .map(|one| (one.op, format!("  {}: {}", part(one), values(one))));
        return [(op, name)].into_iter().chain(parts).collect();
    }
    let Some(Value::Object(whole)) = operations
        .first()
        .and_then(|one| one.value.as_ref().or(one.old.as_ref()))
    else {
        return vec![(op, name)];
    };
    let mut all = vec![(
        op,
        [
            name,
            words(
                whole
                    .iter()
                    .filter(|(key, _)| *key != "backend" && !is_match(key)),
            ),
        ]
        .join(": "),
    )];
    if let Some(Value::Object(backends)) = whole.get("backend") {
        let backends = backends.values().filter_map(Value::as_object);
        all.extend(backends.map(|backend| (op, format!("  {}", words(backend.iter())))));
    }
    all.iter_mut()
        .for_each(|(_, text)| *text = text.trim_end_matches(": ").to_string());
    all
}

/// What the words of a match say already, and an interface's name.
fn is_match(key: &str) -> bool {
    [
        "name",
        "dst",
        "src",
        "proto",
        "port",
        "vlan",
        "inner_vlan",
        "in",
    ]
    .contains(&key)
}

/// The part of a rule that differs: a key, or a backend with its key.
fn part(operation: &Operation) -> String {
    let mut steps = operation.path.split('/').skip(3);
    let unescaped = |step: &str| step.replace("~1", "/").replace("~0", "~");
    let words: Vec<String> = steps.by_ref().map(unescaped).collect();
    words.join(" ")
}

fn values(operation: &Operation) -> String {
    let value = |value: &Option<Value>| value.as_ref().map(word);
    match (value(&operation.old), value(&operation.value)) {
        (Some(old), Some(new)) => format!("{old} -> {new}"),
        (old, new) => old.or(new).unwrap_or_default(),
    }
}

/// A value in words.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(keys) => words(keys.iter()),
        other => other.to_string(),
    }
}

/// The keys of an object with their values; a server's address is what it is called by.
fn words<'a>(keys: impl Iterator<Item = (&'a String, &'a Value)>) -> String {
    let mut all: Vec<_> = keys.collect();
    all.sort_by_key(|(key, _)| *key != "server");
    let all = all
        .into_iter()
        .map(|(key, value)| match (key.as_str(), word(value)) {
            ("ifindex", number) if number == "0" => "without a device".into(),
            (key, value) => format!("{key} {value}"),
        });
    all.collect::<Vec<_>>().join(", ")
}
