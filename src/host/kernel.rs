//! The running kernel.

use std::fs;

use anyhow::{Context, Result};

const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// Major and minor, of "6.18.44-whatever".
pub fn version() -> Option<(u32, u32)> {
    let uname = nix::sys::utsname::uname().ok()?;
    let mut parts = uname
        .release()
        .to_str()?
        .split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// One more than the highest number that a CPU can have, now or once it is plugged in.
pub fn cpu_numbers() -> Result<u32> {
    let ranges = fs::read_to_string(POSSIBLE_CPUS)
        .with_context(|| format!("cannot read {POSSIBLE_CPUS}"))?;
    let highest = ranges.trim().rsplit([',', '-']).next();
    let highest: u32 = highest
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("cannot understand {POSSIBLE_CPUS}"))?;
    Ok(highest + 1)
}
