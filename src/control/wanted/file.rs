//! Which files there are, and what is in them.

use std::fs;
use std::io::{Read, stdin};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Source, Sources};
use crate::control::ruleset_file::bad;
use crate::error::of_file;

/// What standard input is called.
const STDIN: &str = "-";

const CANNOT: &str = "cannot read";

/// Reads files, all files of directories that are TOML or JSON, in the order of their names, and standard input
/// for `-`.
pub fn read(paths: &[PathBuf]) -> Result<Sources> {
    let mut all = Vec::new();
    for path in paths {
        if path == Path::new(STDIN) {
            let mut bytes = Vec::new();
            let read = stdin().read_to_end(&mut bytes);
            read.context("cannot read standard input")?;
            all.push(source("standard input".into(), bytes)?);
            continue;
        }
        for file in files(path)? {
            let name = file.display().to_string();
            let bytes = fs::read(&file).map_err(|error| of_file(CANNOT, &file, &error))?;
            all.push(source(name, bytes)?);
        }
    }
    Ok(Sources(all))
}

fn source(name: String, bytes: Vec<u8>) -> Result<Source> {
    let text = String::from_utf8(bytes).map_err(|_| bad("not UTF-8".into()));
    Ok(Source {
        text: text.with_context(|| name.clone())?,
        name,
    })
}

/// A file itself, or those of a directory.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let cannot = |error| of_file(CANNOT, path, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(cannot)? {
        let file = entry.map_err(cannot)?.path();
        if is_meant(&file) {
            files.push(file);
        }
    }
    files.sort();
    let none = || bad("no file in there is named *.toml or *.json".into());
    match files.is_empty() {
        true => Err(none()).with_context(|| path.display().to_string()),
        false => Ok(files),
    }
}

/// Whether a file of a directory is read: no hidden ones, and no copies that editors keep.
fn is_meant(file: &Path) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy());
    let is_plain = name.is_some_and(|name| !name.starts_with(['.', '#']));
    let extension = file.extension().and_then(|extension| extension.to_str());
    is_plain && matches!(extension, Some("toml" | "json")) && file.is_file()
}
