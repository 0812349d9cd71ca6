//! Detaching.

use std::fs;
use std::os::fd::AsFd;

use anyhow::{Context, Result};

use super::interface::Interface;
use super::{Pins, sys};

/// Detaches interfaces; with the last one goes all state, unless it is to be kept.
pub fn detach(pins: &Pins, which: &[Interface], keep_rules: bool) -> Result<()> {
    for interface in which {
        let directory = pins.interface(interface.ifindex);
        let path = directory.join("link");
        let link =
            sys::open_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
        // The pin first: should this run end here, the link goes with its last descriptor.
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        sys::link_detach(link.as_fd())
            .with_context(|| format!("cannot detach from {}", interface.name()))?;
    }
    pins.sweep()?;
    if !keep_rules && pins.interfaces()?.is_empty() {
        pins.remove()?;
    }
    Ok(())
}
