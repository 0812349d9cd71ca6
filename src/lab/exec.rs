//! Runs a command in a host of the bed.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use super::namespace;
use crate::error::{Exit, failure};
use crate::host::netns;

/// Becomes the command, in the host's network namespace and with this host's mounts.
pub fn exec(host: &str, command: &[OsString]) -> Result<Infallible> {
    super::require_root("exec")?;
    require_host(host)?;
    netns::enter(&namespace::name(host)).with_context(|| format!("host {host}"))?;
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    Err(error).with_context(|| format!("cannot run {}", command[0].to_string_lossy()))
}

fn require_host(host: &str) -> Result<()> {
    let hosts = namespace::live()?;
    if hosts.contains(&host) {
        return Ok(());
    }
    let hosts = hosts.join(", ");
    Err(failure(
        Exit::NotFound,
        format!("no host {host} in the lab: it has {hosts}"),
    ))
}
