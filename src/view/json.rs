//! What scripts read. Keys are added in time, never renamed.

use std::io::{BufWriter, Write};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

/// A value on one line.
pub fn line<T: Serialize>(value: &T) -> Result<String> {
    Ok(serde_json::to_string(value)?)
}

/// Adds the keys of one object to those of another.
pub fn extend<T: Serialize>(object: &mut Value, more: &T) -> Result<()> {
    if let (Some(object), Value::Object(more)) =
        (object.as_object_mut(), serde_json::to_value(more)?)
    {
        object.extend(more);
    }
    Ok(())
}

/// Prints a value on several lines.
pub fn print<T: Serialize>(value: &T) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, value)
        .map_err(std::io::Error::from)
        .and_then(|()| writeln!(out))
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}
