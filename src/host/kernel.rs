//! The running kernel.

use std::fs;

use anyhow::{Context, Result};

const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// The kernel's own types, which the ledger's programs need.
pub const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Linux uapi: linux/capability.h. CAP_SYS_ADMIN stands for the others but one.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What this process would need to do all that the command does.
pub fn missing_capabilities() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    // Not to be known is not missing.
    let has = |bit: u32| effective.is_none_or(|bits| bits & 1 << bit != 0);
    let needed = [
        ("CAP_NET_ADMIN", has(CAP_NET_ADMIN)),
        ("CAP_SYS_ADMIN", has(CAP_SYS_ADMIN)),
        ("CAP_BPF", has(CAP_BPF) || has(CAP_SYS_ADMIN)),
        ("CAP_PERFMON", has(CAP_PERFMON) || has(CAP_SYS_ADMIN)),
    ];
    let missing = needed.into_iter().filter(|(_, has)| !has);
    missing.map(|(name, _)| name).collect()
}

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
