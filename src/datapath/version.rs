//! Which version of this command made the state that is pinned.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Pins;
use super::banks::is_bank;
use super::bpffs::entries;
use super::schema::{JOURNAL, OWN, SHARED, difference};
use super::state::interface_directories;
use crate::error::{Coded, Exit, Failure};

/// State that another version of this command made, and that this one can neither use nor change.
#[derive(Debug)]
pub struct OtherVersion {
    /// The directory that this state is in.
    pub path: PathBuf,
    /// What this version has otherwise.
    pub difference: String,
}

impl fmt::Display for OtherVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} was made by another version of xdpredir ({}): detach with that version, or remove the \
             directory to detach everything in it",
            self.path.display(),
            self.difference
        )
    }
}

impl Coded for OtherVersion {
    fn exit(&self) -> Exit {
        Exit::Conflict
    }
}

/// The state of this network namespace that other versions made.
pub fn other_versions(pins: &Pins) -> Result<Vec<OtherVersion>> {
    // Before maps had schemas of their own, the number of one ABI for all was the directory's name.
    let is_older = |name: &String| name.starts_with("abi-");
    let older = entries(pins.namespace())?.into_iter().filter(is_older);
    let mut others: Vec<_> = older
        .map(|name| OtherVersion {
            path: pins.namespace().join(name),
            difference: "its maps have no schemas".into(),
        })
        .collect();
    if let Some(difference) = first_difference(pins)? {
        let path = pins.state();
        others.push(OtherVersion { path, difference });
    }
    Ok(others)
}

fn first_difference(pins: &Pins) -> Result<Option<String>> {
    let state = pins.state();
    let is_shared = |name: &String| !name.starts_with("if-") && !is_bank(name);
    let mut names = entries(&state)?;
    names.retain(is_shared);
    let mut found = names.iter().find_map(|name| difference(&SHARED, name));
    let own = |directory: &Path, maps| -> Result<Option<String>> {
        let names = entries(directory)?;
        Ok(names.iter().find_map(|name| difference(maps, name)))
    };
    if let Some(journal) = pins.journal().parent() {
        found = found.or(own(journal, &JOURNAL)?);
    }
    for ifindex in interface_directories(pins)? {
        found = found.or(own(&pins.interface(ifindex), &OWN)?);
    }
    Ok(found)
}

pub(super) fn require_our_version(pins: &Pins) -> Result<()> {
    match other_versions(pins)?.pop() {
        Some(other) => Err(Failure::new(other)),
        None => Ok(()),
    }
}
