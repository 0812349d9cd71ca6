//! A rule set as a file has it. Its rules are written one by one: there may be a million.

use std::io::{self, BufWriter, Write, stdout};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::model::{RuleEntry, RuleSet};

const CANNOT: &str = "cannot write to standard output";

pub fn toml(whole: RuleSet, rules: impl Iterator<Item = RuleEntry>) -> Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    let text = toml::to_string(&whole)?;
    out.write_all(text.as_bytes()).context(CANNOT)?;
    let mut separator = if text.is_empty() { "" } else { "\n" };
    for rule in rules {
        let one = RuleSet {
            rule: Some(vec![rule]),
            ..RuleSet::default()
        };
        let text = toml::to_string(&one)?;
        write!(out, "{separator}{text}").context(CANNOT)?;
        separator = "\n";
    }
    out.flush().context(CANNOT)
}

/// One rule a line, so that what differs from an earlier one is lines.
pub fn json(whole: RuleSet, rules: impl Iterator<Item = RuleEntry>) -> Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    write_json(&mut out, &whole, rules).context(CANNOT)
}

fn write_json(
    out: &mut impl Write,
    whole: &RuleSet,
    rules: impl Iterator<Item = RuleEntry>,
) -> io::Result<()> {
    out.write_all(b"{")?;
    let value = serde_json::to_value(whole)?;
    for (key, value) in value.as_object().into_iter().flatten() {
        if key != "interface" {
            write!(out, "\n  \"{key}\": {value},")?;
        }
    }
    if let Some(interfaces) = &whole.interface {
        out.write_all(b"\n  \"interface\": ")?;
        list(out, interfaces.iter())?;
        out.write_all(b",")?;
    }
    out.write_all(b"\n  \"rule\": ")?;
    list(out, rules)?;
    out.write_all(b"\n}\n")?;
    out.flush()
}

fn list<T: Serialize>(out: &mut impl Write, all: impl Iterator<Item = T>) -> io::Result<()> {
    out.write_all(b"[")?;
    let mut separator = "\n    ";
    for one in all {
        out.write_all(separator.as_bytes())?;
        serde_json::to_writer(&mut *out, &one)?;
        separator = ",\n    ";
    }
    match separator.starts_with(',') {
        true => out.write_all(b"\n  ]"),
        false => out.write_all(b"]"),
    }
}
