//! The running kernel.

use std::fs;

use anyhow::{Context, Result};

const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// The kernel's own types, which the ledger's programs need.
pub const BTF: &str = "/sys/kernel/btf/vmlinux";

/// What to do where this kernel lacks what is needed, and where its verifier refuses a program.
pub const BOOT_NEWER: &str = "boot Linux 6.1 or later";
pub const BOOT_TESTED: &str = "boot one of the kernels that the README names";

/// As `uname -r` has it.
pub fn release() -> String {
    let uname = nix::sys::utsname::uname().ok();
    let release = uname.and_then(|uname| uname.release().to_str().map(String::from));
    release.unwrap_or_else(|| "of unknown version".into())
}

/// Whether it is that version or a newer one; false where that cannot be told.
pub fn is_at_least(major: u32, minor: u32) -> bool {
    let release = release();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()) >= Some((major, minor))
}

/// How many CPUs run; 1 where that cannot be told.
pub fn cpus() -> u32 {
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
    let online = online.ok().flatten();
    online
        .and_then(|cpus| u32::try_from(cpus).ok())
        .unwrap_or(1)
}

/// One more than the highest number that a CPU can have, now or once it is plugged in.
pub fn cpu_numbers() -> Result<u32> {
    Ok(possible_cpus()?.last().map_or(0, |highest| highest + 1))
}

/// The numbers that CPUs can have, in order: numbers between them may be missing.
pub fn possible_cpus() -> Result<Vec<u32>> {
    let ranges = fs::read_to_string(POSSIBLE_CPUS)
        .with_context(|| format!("cannot read {POSSIBLE_CPUS}"))?;
    numbers(ranges.trim()).with_context(|| format!("cannot understand {POSSIBLE_CPUS}"))
}

/// Of a list such as 0-3,8.
fn numbers(ranges: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_cpus_may_have_gaps() {
        assert_eq!(numbers("0"), Some(vec![0]));
        assert_eq!(numbers("0-2,8,10-11"), Some(vec![0, 1, 2, 8, 10, 11]));
        assert_eq!(numbers(""), None);
    }
}
