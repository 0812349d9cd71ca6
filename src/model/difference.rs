//! What differs between what a network namespace has and what it is to have.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{InterfaceEntry, RuleEntry};

/// Something that differs.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// What is the namespace's as a whole.
    Key {
        key: &'static str,
        old: Option<Value>,
        new: Value,
    },
    /// None: it is not attached.
    Interface {
        old: Option<InterfaceEntry>,
        new: Option<InterfaceEntry>,
    },
    /// None: it is not there.
    Rule {
        /// Its match, in words.
        matches: String,
        old: Option<Box<RuleEntry>>,
        new: Option<Box<RuleEntry>>,
    },
}

/// A part of a change, as JSON Patch (RFC 6902) has operations; `old` is what was there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operation {
    pub op: Op,
    /// As a JSON Pointer (RFC 6901): interfaces, rules and backends stand there by their names, matches and addresses.
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
}

/// Something that files name, and that can't be found now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unfound {
    /// File, line and column.
    pub place: String,
    /// What it is, in words.
    pub what: String,
    pub error: String,
    /// How often it is named.
    pub times: usize,
}

impl Unfound {
    /// The order of places: by their files, and the lines and columns there.
    pub fn order(&self) -> (String, [usize; 2]) {
        let mut parts = self.place.rsplitn(3, ':');
        let number = |part: Option<&str>| part.and_then(|part| part.parse().ok());
        match (number(parts.next()), number(parts.next()), parts.next()) {
            (Some(column), Some(line), Some(file)) => (file.into(), [line, column]),
            // Files that have more of them come last.
            _ => (self.place.clone(), [usize::MAX; 2]),
        }
    }
}

impl fmt::Display for Unfound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        let name = self.what.rsplit(' ').next();
        if !name.is_some_and(|name| self.error.contains(name)) {
            write!(f, "{}: ", self.what)?;
        }
        f.write_str(&self.error)?;
        match self.times {
            0 | 1 => Ok(()),
            times => write!(f, " (named {times} times)"),
        }
    }
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    Add,
    Remove,
    Replace,
}

impl Op {
    fn of(old: bool, new: bool) -> Self {
        match (old, new) {
            (false, _) => Op::Add,
            (true, false) => Op::Remove,
            (true, true) => Op::Replace,
        }
    }
}

impl Change {
    /// Whether it adds, removes or replaces the whole.
    pub fn op(&self) -> Op {
        match self {
            Change::Key { old, .. } => Op::of(old.is_some(), true),
            Change::Interface { old, new } => Op::of(old.is_some(), new.is_some()),
            Change::Rule { old, new, .. } => Op::of(old.is_some(), new.is_some()),
        }
    }

    /// The operations that make it: one for what comes or goes as a whole, and one for each key that differs.
    pub fn operations(&self) -> Vec<Operation> {
        match self {
            Change::Key { key, old, new } => {
                vec![operation(format!("/{key}"), old.clone(), Some(new.clone()))]
            }
            Change::Interface { old, new } => {
                let name = old.as_ref().or(new.as_ref()).map(|one| one.name.as_str());
                let path = format!("/interface/{}", escaped(name.unwrap_or_default()));
                keys(path, json(old), json(new))
            }
            Change::Rule { matches, old, new } => {
                let path = format!("/rule/{}", escaped(matches));
                keys(path, rule(old), rule(new))
            }
        }
    }
}

fn operation(path: String, old: Option<Value>, value: Option<Value>) -> Operation {
    Operation {
        op: Op::of(old.is_some(), value.is_some()),
        path,
        value,
        old,
    }
}

/// The operations that make one object another.
fn keys(path: String, old: Option<Value>, new: Option<Value>) -> Vec<Operation> {
    let (Some(Value::Object(mut old)), Some(Value::Object(new))) = (old.clone(), new.clone())
    else {
        return vec![operation(path, old, new)];
    };
    let mut operations = Vec::new();
    for (key, value) in new {
        let before = old.remove(&key);
        if before.as_ref() == Some(&value) {
            continue;
        }
        operations.extend(keys(
            format!("{path}/{}", escaped(&key)),
            before,
            Some(value),
        ));
    }
    let gone = old.into_iter();
    operations.extend(
        gone.map(|(key, before)| {
            operation(format!("{path}/{}", escaped(&key)), Some(before), None)
        }),
    );
    operations
}

fn json<T: Serialize>(entry: &Option<T>) -> Option<Value> {
    let entry = entry.as_ref()?;
    Some(serde_json::to_value(entry).unwrap_or_default())
}

/// A rule whose backends stand by their addresses.
fn rule(entry: &Option<Box<RuleEntry>>) -> Option<Value> {
    let mut value = json(entry)?;
    if let Some(Value::Array(backends)) = value.get_mut("backend").map(Value::take) {
        let named = backends.into_iter().map(|backend| {
            let name = backend.get("server").and_then(Value::as_str);
            (name.unwrap_or_default().to_string(), backend)
        });
        value["backend"] = Value::Object(named.collect::<Map<_, _>>());
    }
    Some(value)
}

/// As a part of a JSON Pointer.
fn escaped(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BackendEntry, Weight};

    fn backend(last: u8, weight: u16) -> BackendEntry {
        BackendEntry {
            server: Some([10, 0, 0, last].into()),
            weight: Weight::new(weight).unwrap(),
            ..BackendEntry::default()
        }
    }

    fn with(sticky: bool, backend: Vec<BackendEntry>) -> Option<Box<RuleEntry>> {
        Some(Box::new(RuleEntry {
            sticky,
            backend,
            ..RuleEntry::default()
        }))
    }

    fn operations(old: Option<Box<RuleEntry>>, new: Option<Box<RuleEntry>>) -> Vec<String> {
        let matches = "src 10.0.0.0/8".into();
        let change = Change::Rule { matches, old, new };
        let all = change.operations();
        all.iter()
            .map(|one| serde_json::to_string(one).unwrap())
            .collect()
    }

    #[test]
    fn what_differs_is_told_key_by_key() {
        let old = with(true, vec![backend(1, 2), backend(2, 1)]);
        let new = with(false, vec![backend(1, 5), backend(3, 1)]);
        let all = operations(old, new);
        let at = r#""path":"/rule/src 10.0.0.0~18"#;
        let expected = [
            format!(r#"{{"op":"add",{at}/backend/10.0.0.3","value":{{"server":"10.0.0.3"}}}}"#),
            format!(r#"{{"op":"remove",{at}/backend/10.0.0.2","old":{{"server":"10.0.0.2"}}}}"#),
            format!(r#"{{"op":"remove",{at}/sticky","old":true}}"#),
            format!(r#"{{"op":"replace",{at}/backend/10.0.0.1/weight","value":5,"old":2}}"#),
        ];
        for expected in &expected {
            assert!(all.contains(expected), "{expected}: {all:?}");
        }
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn what_comes_or_goes_is_told_as_a_whole() {
        let rule = with(true, vec![backend(1, 1)]);
        let [added] = operations(None, rule.clone()).try_into().unwrap();
        assert!(added.starts_with(r#"{"op":"add","path":"/rule/src 10.0.0.0~18","value":{"#));
        let [removed] = operations(rule, None).try_into().unwrap();
        assert!(removed.contains(r#""op":"remove""#) && removed.contains(r#""old":{"#));
    }
}
