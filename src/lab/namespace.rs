//! The network namespaces of the lab's hosts.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use super::beds;
use crate::error::{Exit, failure};
use crate::host::netns;

pub fn name(host: &str) -> String {
    format!("xdpredir-{host}")
}

pub fn path(host: &str) -> PathBuf {
    netns::path(&name(host))
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
    let file = netns::file(&path(host)).ok();
    file.is_some_and(|file| netns::is_current(&file).unwrap_or(false))
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
