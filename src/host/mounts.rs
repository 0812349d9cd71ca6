//! The mount namespace of this process.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whether a process that led to this one, as far as they can be seen, has another mount namespace:
/// what is mounted here vanishes when this process ends, as in `ip netns exec`.
pub fn are_short_lived() -> bool {
    let Some(ours) = namespace("self") else {
        return false;
    };
    let mut pid = parent("self");
    while let Some(ancestor) = pid {
        match namespace(&ancestor) {
            Some(theirs) if theirs == ours => pid = parent(&ancestor),
            Some(_) => return true,
            None => return false,
        }
    }
    false
}

fn namespace(pid: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

/// None for the first process of a PID namespace, which has none that can be seen.
fn parent(pid: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.map(|pid| pid.trim().to_string())
        .filter(|pid| pid != "0")
}

/// Whether two paths lead to one file.
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}
