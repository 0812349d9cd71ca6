//! The text of a file of rules.

use anyhow::Result;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::{Records, bad};
use crate::control::nearest;
use crate::model::RuleRecord;

/// Reads the records of a file.
pub fn records(text: &str) -> Result<Records> {
    if text.trim_start().starts_with('[') {
        let all: Vec<RuleRecord> = serde_json::from_str(text)
            .map_err(|error| syntax::<Vec<RuleRecord>>(error.line(), text, &error))?;
        return Ok((1..).map(|number| ("rule", number)).zip(all).collect());
    }
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let read = |(number, line)| match serde_json::from_str(line) {
        Ok(record) => Ok((("line", number), record)),
        Err(error) => Err(syntax::<RuleRecord>(number, line, &error)),
    };
    lines.map(read).collect()
}

fn syntax<T: DeserializeOwned>(
    line: usize,
    json: &str,
    error: &serde_json::Error,
) -> anyhow::Error {
    let text = error.to_string();
    let what = text
        .rsplit_once(" at line ")
        .map_or(&*text, |split| split.0);
    let what = nearest::explain(what);
    let column = error.column();
    let is_named = |key: &String| words(&what).any(|word| word == key);
    let key = key::<T>(json).filter(|key| !is_named(key));
    let key = key.map_or_else(String::new, |key| format!("{key}: "));
    bad(format!("line {line}, column {column}: {key}{what}"))
}

/// The key whose value is wrong. It is asked for once something is wrong, because to follow the keys takes
/// time.
fn key<T: DeserializeOwned>(json: &str) -> Option<String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = serde_path_to_error::deserialize::<_, T>(&mut deserializer);
    let error = read.err()?;
    error.path().iter().rev().find_map(|segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        _ => None,
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}
