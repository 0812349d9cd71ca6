//! Detaching.

use std::fs;
use std::os::fd::AsFd;

use anyhow::{Context, Error, Result};

use super::interface::Interface;
use super::{Pins, sys};
use crate::error::one_line;

/// Takes the program off an interface, in whatever network namespace that is now.
pub fn detach(pins: &Pins, interface: &Interface) -> Result<()> {
    let path = pins.interface(interface.ifindex).join("link");
    let link = sys::open_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
    // The pin first: should this run end here, the link goes with its last descriptor.
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    sys::link_detach(link.as_fd())
        .with_context(|| format!("cannot detach from {}", interface.name()))
}

/// Removes what detached interfaces leave; with the last one goes all state, unless it is to be kept.
/// What is said where an empty directory has to stay.
pub fn clear(pins: &Pins, keep_rules: bool) -> Result<Option<String>> {
    pins.sweep()?;
    if keep_rules || !pins.interfaces()?.is_empty() {
        return Ok(None);
    }
    pins.remove_state()?;
    let stays = pins.remove_directories().err();
    Ok(stays.map(|error| stays_empty(pins, &error)))
}

fn stays_empty(pins: &Pins, error: &Error) -> String {
    let all = [&pins.namespace, &pins.root];
    let directory = all.into_iter().find(|path| path.exists());
    let directory = directory.unwrap_or(&pins.root).display();
    let why = one_line(error);
    format!("{why}: it is empty; root, or who owns the directory above it, can `rmdir {directory}`")
}
