//! Which version of this command made the state that is pinned, and whether this one can take it over.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;

use super::banks::is_bank;
use super::bpffs::entries;
use super::schema::{CHAIN, FIRST_CONFIG, JOURNAL, OWN, SHARED, difference, pin_of, schema_of};
use super::state::{inode, interface_directories};
use super::{Pins, abi, chain};
use crate::error::{Coded, Exit, Failure};
use crate::model::{Remedy, Verb};

/// This version, and the build of its programs.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("XDPREDIR_BUILD"));

/// The same, read where it lies in the binary and not taken apart by the compiler: a copy of the binary that has another
/// name there is another version.
pub fn this_version() -> &'static str {
    std::hint::black_box(VERSION)
}

const _: () = assert!(VERSION.len() < abi::INTERFACE_VERSION_LEN as usize);

/// State that another version of this command made, and that this one can neither use nor change.
#[derive(Debug)]
pub struct OtherVersion {
    /// The directory that this state is in.
    pub path: PathBuf,
    /// What this version has otherwise.
    pub difference: String,
    /// This version can take it over.
    pub is_heir: bool,
}

impl fmt::Display for OtherVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} was made by another version of xdpredir ({})",
            self.path.display(),
            self.difference
        )
    }
}

impl Coded for OtherVersion {
    fn exit(&self) -> Exit {
        Exit::Conflict
    }

    fn remedy(&self) -> Remedy {
        match self.is_heir {
            true => Remedy::from(Verb::Plain("upgrade")) + " takes it over",
            false => Remedy::from(
                "with that version, save the rules (`rule list --json`) and detach, or remove the directory to detach \
                 everything in it; then attach and load the rules with this one",
            ),
        }
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
            is_heir: false,
        })
        .collect();
    let path = pins.state();
    let foreign = foreign_maps(pins)?.map(|difference| (difference, false));
    let found = match foreign {
        None => lacking_maps(pins)?.map(|difference| (difference, true)),
        found => found,
    };
    others.extend(found.map(|(difference, is_heir)| OtherVersion {
        path,
        difference,
        is_heir,
    }));
    Ok(others)
}

/// A map that this version would misread, or does not know.
fn foreign_maps(pins: &Pins) -> Result<Option<String>> {
    let is_shared = |name: &String| !name.starts_with("if-") && !is_bank(name);
    let mut names = entries(&pins.state())?;
    names.retain(is_shared);
    let mut found = names.iter().find_map(|name| difference(&SHARED, name));
    if let Some(journal) = pins.journal().parent() {
        let names = entries(journal)?;
        found = found.or_else(|| names.iter().find_map(|name| difference(&JOURNAL, name)));
    }
    for ifindex in interface_directories(pins)? {
        let names = entries(&pins.interface(ifindex))?;
        let mut kept = names.iter().filter(|name| !is_replaced(name));
        found = found.or_else(|| kept.find_map(|name| difference(&OWN, name)));
        for directory in chain::directories(pins, ifindex)? {
            let names = entries(&directory)?;
            found = found.or_else(|| names.iter().find_map(|name| difference(&CHAIN, name)));
        }
    }
    Ok(found)
}

/// Whether an upgrade replaces or removes an interface's map that is of another schema.
fn is_replaced(pin: &str) -> bool {
    match schema_of(pin) {
        Some(("config", schema)) => schema >= FIRST_CONFIG,
        Some((name, _)) => name != "policy",
        None => true,
    }
}

/// What only interfaces have otherwise, and maps that this version has besides.
fn lacking_maps(pins: &Pins) -> Result<Option<String>> {
    for ifindex in interface_directories(pins)? {
        if let Some(found) = own_difference(pins, ifindex)? {
            return Ok(Some(found));
        }
    }
    let Ok(before) = inode(pins) else {
        return Ok(None);
    };
    let missing = missing_maps(pins)?;
    // What another run is removing lacks maps, too.
    let is_same = inode(pins).is_ok_and(|now| now == before);
    let missing = missing.first().filter(|_| is_same);
    Ok(missing.map(|map| format!("it has no map {map}")))
}

/// How the pins of an interface differ from those that this version makes.
pub(super) fn own_difference(pins: &Pins, ifindex: u32) -> Result<Option<String>> {
    let names = entries(&pins.interface(ifindex))?;
    Ok(names.iter().find_map(|name| difference(&OWN, name)))
}

/// The shared maps that are not pinned.
pub(super) fn missing_maps(pins: &Pins) -> Result<Vec<&'static str>> {
    let names = entries(&pins.state())?;
    let is_there = |map: &str| pin_of(&SHARED, map).is_some_and(|pin| names.contains(&pin));
    let all = SHARED.iter().map(|(map, _)| *map);
    Ok(all.filter(|map| !is_there(map)).collect())
}

pub(super) fn require_our_version(pins: &Pins) -> Result<()> {
    refuse(other_versions(pins)?.pop())
}

/// That this version can take over what is there, if it is not its own.
pub(super) fn require_heir(pins: &Pins) -> Result<()> {
    let mut others = other_versions(pins)?;
    others.retain(|other| !other.is_heir);
    refuse(others.pop())
}

fn refuse(other: Option<OtherVersion>) -> Result<()> {
    other.map_or(Ok(()), |other| Err(Failure::new(other)))
}
