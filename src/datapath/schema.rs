//! Which version of this command made the state that is pinned.

use std::path::PathBuf;

use anyhow::Result;

use super::bpffs::entries;
use super::{Pins, abi};
use crate::error::{Exit, failure};

/// The state of this network namespace that other versions made.
pub fn other_versions(pins: &Pins) -> Result<Vec<PathBuf>> {
    let ours = format!("abi-{}", abi::XDPREDIR_ABI);
    let mut names = entries(pins.namespace())?;
    names.retain(|name| name.starts_with("abi-") && *name != ours);
    Ok(names
        .iter()
        .map(|name| pins.namespace().join(name))
        .collect())
}

pub(super) fn require_our_version(pins: &Pins) -> Result<()> {
    let others = other_versions(pins)?;
    let Some(other) = others.first() else {
        return Ok(());
    };
    Err(failure(
        Exit::Conflict,
        format!(
            "{} was made by another version of xdpredir (this one is abi-{}): \
             detach with that version, or remove the directory to detach everything in it",
            other.display(),
            abi::XDPREDIR_ABI
        ),
    ))
}
