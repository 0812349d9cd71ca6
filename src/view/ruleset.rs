//! A rule set as a file has it. Its rules are written one by one: there may be a million.

use std::io::{self, BufWriter, Write, stdout};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::model::{RuleEntry, RuleSet};

pub fn toml(whole: RuleSet, rules: impl Iterator<Item = RuleEntry>) -> Result<()> {
    let mut out = BufWriter::new(stdout().lock());
    let mut separator = "";
    let mut part = |part: &RuleSet| -> Result<()> {
        let text = toml::to_string(part)?;
        if !text.is_empty() {
            write!(out, "{separator}{text}")
                .and_then(|()| Ok(separator = "\n"))
                .context(CANNOT)?;
        }
        Ok(())
    };
    let mut is_empty = true;
    part(&whole)?;
    for rule in rules {
        is_empty = false;
        part(&RuleSet {
            rule: Some(vec![rule]),
            ..RuleSet::default()
        })?;
    }
    let _ = is_empty;
    out.flush().context(CANNOT)
}

const CANNOT: &str = "cannot write to standard output";

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
    out.write_all(b"\n  \"interface\": ")?;
    list(out, whole.interface.iter().flatten())?;
    out.write_all(b",\n  \"rule\": ")?;
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
