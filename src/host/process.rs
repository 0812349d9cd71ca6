//! Processes.

use std::fs;

use anyhow::Result;

use crate::error::{Exit, failure};

/// When a process was started, in clock ticks since boot: with it, its number is not taken for
/// another process that gets the same one.
pub fn started(pid: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    // proc(5): the 22nd field. The second is the command, in parentheses, with whatever is in it.
    let started = stat.ok().and_then(|stat| {
        let rest = stat.rsplit_once(')')?.1;
        rest.split_whitespace().nth(19)?.parse().ok()
    });
    started.ok_or_else(|| failure(Exit::NotFound, format!("pid {pid}: no such process")))
}
