//! What scripts read. Keys are added in time, never renamed.

use std::io::{BufWriter, StdoutLock, Write};

use anyhow::{Context, Result};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::ser::PrettyFormatter;

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
    write(|out| value.serialize(out))
}

/// Prints values as one array, each when its turn comes.
pub fn print_all<T: Serialize>(values: impl Iterator<Item = T>) -> Result<()> {
    write(|out| out.collect_seq(values))
}

type Pretty<'a, W> = &'a mut serde_json::Serializer<W, PrettyFormatter<'static>>;

fn write(
    serialize: impl FnOnce(Pretty<'_, &mut BufWriter<StdoutLock>>) -> serde_json::Result<()>,
) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    serialize(&mut serde_json::Serializer::pretty(&mut out))
        .map_err(std::io::Error::from)
        .and_then(|()| writeln!(out))
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}
