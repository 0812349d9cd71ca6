//! The network namespaces of the lab's hosts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use super::beds;
use crate::error::{Exit, failure};

const PREFIX: &str = "xdpredir-";

pub fn name(host: &str) -> String {
    format!("{PREFIX}{host}")
}

pub fn host_of(namespace: &str) -> Option<&str> {
    namespace.strip_prefix(PREFIX)
}

pub fn path(host: &str) -> PathBuf {
    Path::new("/run/netns").join(name(host))
}

/// The hosts whose namespace has a name, be it that of a whole bed or of a part.
pub fn present() -> Vec<&'static str> {
    let mut hosts = beds::all_hosts();
    hosts.retain(|host| path(host).exists());
    hosts
}

/// Those that can be entered: at least one, or it is an error.
pub fn live() -> Result<Vec<&'static str>> {
    let mut hosts = present();
    hosts.retain(|host| is_live(host));
    if hosts.is_empty() {
        return Err(failure(
            Exit::NotFound,
            "no lab is up: run `xdpredir lab up`",
        ));
    }
    Ok(hosts)
}

/// Whether the name stands for a namespace: an `ip netns add` that was killed leaves an empty file.
pub fn is_live(host: &str) -> bool {
    statfs(&path(host)).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC)
}

/// Whether this process is in the host's namespace.
pub fn is_ours(host: &str) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let own = identity(Path::new("/proc/self/ns/net"));
    own.is_some() && own == identity(&path(host))
}

/// A command in the host's network namespace. Not `ip netns exec`: that remounts /sys, hides the
/// bpffs, and fails where / is no mount point.
pub fn command<S: AsRef<std::ffi::OsStr>>(host: &str, words: &[S]) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", path(host).display()))
        .args(words);
    command
}
