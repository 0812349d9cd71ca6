//! Detaching, and removing what is left: by `detach`, and by runs that were killed half-way.

use std::fs;

use anyhow::{Context, Error, Result};

use super::bpffs::{exists, remove_directory, remove_tree};
use super::interface::Interface;
use super::ledger::{self, Hook};
use super::permissions::close_members_door;
use super::ruleset::slots::Slots;
use super::stances::{attached, dormant_now, interfaces};
use super::state::{has_state, interface_directories, linked};
use super::{Pins, attachment};
use crate::error::one_line;
use crate::host::device;
use crate::model::{LedgerState, Place, Refusal, Remedy, Tool};

/// Takes the program off an interface, in whatever network namespace that is now.
pub fn detach(pins: &Pins, interface: &Interface) -> Result<()> {
    attachment::detach(pins, interface.ifindex)
        .with_context(|| format!("cannot detach from {}", interface.name()))
}

/// Removes what detached interfaces leave; with the last one goes all state, unless it is to be kept.
/// Returns a sentence where an empty directory has to stay.
pub fn clear(pins: &Pins, keep_rules: bool) -> Result<Option<Refusal>> {
    sweep(pins)?;
    if keep_rules || !attached(pins)?.is_empty() {
        return Ok(None);
    }
    remove_state(pins)?;
    let stays = remove_directories(pins).err();
    Ok(stays.map(|error| stays_empty(pins, &error)))
}

fn stays_empty(pins: &Pins, error: &Error) -> Refusal {
    let all = [pins.namespace(), pins.root()];
    let directory = all.into_iter().find(|path| path.exists());
    let rmdir = Tool::new("rmdir").arg(directory.unwrap_or(pins.root()));
    let remedy = Remedy::from("it is empty; root, or who owns the directory above it, can ")
        + rmdir.at(Place::Anywhere);
    (one_line(error), remedy).into()
}

/// Removes what an interrupted run has left: staged state, interfaces without a link, and programs of interfaces
/// that are not attached yet, or no longer.
pub(super) fn sweep(pins: &Pins) -> Result<()> {
    remove_tree(&pins.staged())?;
    if !has_state(pins)? {
        return Ok(());
    }
    for ifindex in interface_directories(pins)? {
        attachment::settle(pins, ifindex)?;
    }
    end_dormant(pins)?;
    let linked = linked(pins)?;
    for hook in Hook::ALL {
        if !is_ledger_wanted(pins, hook) {
            ledger::end(pins, hook)?;
        }
    }
    let directories = interface_directories(pins)?.into_iter();
    let mut orphans = directories.filter(|ifindex| !linked.contains(ifindex));
    orphans.try_for_each(|ifindex| attachment::remove_pins(pins, ifindex))
}

/// Takes the programs off that do nothing. Only then, no program has to look whether its interface is dormant.
fn end_dormant(pins: &Pins) -> Result<()> {
    for ifindex in dormant_now(pins)? {
        let name = || device::name_of(ifindex).unwrap_or_else(|| format!("ifindex {ifindex}"));
        attachment::detach(pins, ifindex)
            .with_context(|| format!("cannot detach from {}", name()))?;
    }
    Slots::open(pins)?.set_dormant(false)
}

/// An interface that cannot be read is no reason to end the ledger.
fn is_ledger_wanted(pins: &Pins, hook: Hook) -> bool {
    let keeps_one = |interface: &Interface| {
        interface.ledger == LedgerState::On && Hook::of(interface.mode) == hook
    };
    interfaces(pins).map_or(true, |all| all.iter().any(keeps_one))
}

/// Removes all state of the network namespace, and the directories that are then empty.
pub(super) fn remove(pins: &Pins) -> Result<()> {
    remove_state(pins)?;
    remove_directories(pins)
}

fn remove_state(pins: &Pins) -> Result<()> {
    // Renamed first, so that a run that is killed here leaves all or nothing to be seen.
    remove_tree(&pins.staged())?;
    if exists(&pins.state())? {
        fs::rename(pins.state(), pins.staged())?;
    }
    remove_tree(&pins.staged())
}

/// Those that are empty.
fn remove_directories(pins: &Pins) -> Result<()> {
    remove_directory(pins.namespace())?;
    if remove_directory(pins.root())? && pins.is_default() {
        close_members_door();
    }
    Ok(())
}
