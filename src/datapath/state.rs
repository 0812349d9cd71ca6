//! What is pinned, read without the lock while others may change it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Result, bail};

use super::bpffs::{At, entries, exists, require_trusted};
use super::cause::is_not_found;
use super::locate::{mounts_bpffs, no_bpffs};
use super::version::require_our_version;
use super::{Pins, attachment};
use crate::error::{Exit, failure};
use crate::model::{Refusal, Remedy, Verb};

/// How often state is read again that others make or remove meanwhile.
const READS: usize = 10;

/// Reads what is pinned; None where nothing is. What was read is of one state, from its `attach` to
/// its `detach`.
pub fn read<T>(pins: &Pins, mut read: impl FnMut() -> Result<T>) -> Result<Option<T>> {
    for last in (0..READS).map(|attempt| attempt + 1 == READS) {
        let Some(before) = identity(pins)? else {
            return Ok(None);
        };
        let result = read();
        let is_same = identity(pins)? == Some(before);
        let has_vanished = || result.as_ref().is_err_and(is_not_found);
        if is_same && (last || !has_vanished()) {
            return result.map(Some);
        }
    }
    let path = pins.namespace().display();
    bail!(
        "{path}: could not be read, because other runs attach and detach all the time: try again"
    );
}

/// A number that changes with each `detach` of everything; None where nothing is pinned.
fn identity(pins: &Pins) -> Result<Option<u64>> {
    let look = || {
        if !exists(pins.namespace())? {
            return Ok(None);
        }
        require_trusted(pins.root())?;
        require_trusted(pins.namespace())?;
        require_our_version(pins)?;
        inode(pins).map(Some)
    };
    match look() {
        Err(error) if is_not_found(&error) => Ok(None),
        looked => looked,
    }
}

/// The number of the directory that state is pinned in, which changes with each `detach` of everything.
pub(super) fn inode(pins: &Pins) -> Result<u64> {
    let state = pins.state();
    let found = fs::metadata(&state);
    let found = found.at("cannot look into", &state)?;
    Ok(found.ino())
}

/// Whether anything is pinned for this network namespace.
pub fn has_state(pins: &Pins) -> Result<bool> {
    exists(&pins.state())
}

/// The indexes of the interfaces that have a link; it may not be attached yet, or no longer (see `stances`).
pub(super) fn linked(pins: &Pins) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for ifindex in interface_directories(pins)? {
        if attachment::is_there(pins, ifindex)? {
            found.push(ifindex);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The indexes of all interfaces that have a directory, attached or not.
pub(super) fn interface_directories(pins: &Pins) -> Result<Vec<u32>> {
    let ifindex = |name: String| name.strip_prefix("if-")?.parse().ok();
    let names = entries(&pins.state())?;
    Ok(names.into_iter().filter_map(ifindex).collect())
}

/// The directories of other network namespaces, with their cookies.
pub fn other_namespaces(pins: &Pins) -> Result<Vec<(u64, PathBuf)>> {
    let cookie = |name: &String| name.strip_prefix("netns-")?.parse().ok();
    let other = |name: String| Some((cookie(&name)?, pins.root().join(name)));
    let names = entries(pins.root())?;
    let mut others: Vec<_> = names.into_iter().filter_map(other).collect();
    others.retain(|(_, path)| path != pins.namespace());
    Ok(others)
}

/// The error where state is needed and nothing is attached.
pub fn not_attached(pins: &Pins) -> anyhow::Error {
    let attach = Remedy::from("run ") + Verb::Plain("attach IFACE") + " first";
    nothing_attached(pins, attach)
}

pub(super) fn nothing_attached(pins: &Pins, remedy: Remedy) -> anyhow::Error {
    let no_pins = || (format!("no pins under {}", pins.root().display()), remedy).into();
    // Where that helps, `attach` mounts a bpffs itself.
    let missing = no_bpffs(pins).filter(|_| !mounts_bpffs(pins));
    let Refusal { why, remedy } = missing.unwrap_or_else(no_pins);
    let why = format!("not attached in this network namespace: {why}");
    failure(Exit::NotFound, (why, remedy))
}
