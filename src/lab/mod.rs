//! Test beds of network namespaces. Every device is made inside a namespace; the network that the
//! command is run in, and all files on disk, stay as they are.

mod beds;
mod commands;
mod down;
mod exec;
mod inspect;
mod namespace;
mod show;
mod tmux;
mod up;

use std::fs::File;
use std::process::Command;

use anyhow::{Context, Result};

use crate::error::{Exit, failure};
pub use beds::{BEDS, Bed};
pub use exec::exec;
pub use inspect::{Device, Host, Status};
pub use tmux::Session;

/// The lab, and what it needs of its caller.
pub struct Lab<'a> {
    /// Shows a line of the running commentary.
    pub say: &'a dyn Fn(&str),
    /// Makes the command that detaches the program from all interfaces of a network namespace.
    pub detach: &'a dyn Fn(&str) -> Result<Command>,
}

impl Lab<'_> {
    /// Makes a bed. One that is there stays as it is.
    pub fn up(&self, bed: &'static Bed) -> Result<()> {
        require_root("up")?;
        let _lock = lock()?;
        up::up(self, bed)
    }

    /// Removes a bed. The report comes before the tmux session is ended: this process may end with it.
    pub fn down(&self, report: impl FnOnce() -> Result<()>) -> Result<()> {
        require_root("down")?;
        let _lock = lock()?;
        self.remove_all()?;
        report()?;
        tmux::end(self)
    }
}

/// What there is of a bed.
pub fn status() -> Result<Status> {
    if !namespace::present().is_empty() {
        require_root("status")?;
    }
    inspect::status()
}

/// The bed in a tmux session, with a pane for each of its hosts.
pub fn tmux() -> Result<Session> {
    require_root("tmux")?;
    let _lock = lock()?;
    let hosts = namespace::live()?;
    down::refuse_from_inside(&hosts)?;
    commands::require(&["tmux"])?;
    tmux::open(&hosts)
}

fn require_root(verb: &str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(failure(
        Exit::Permission,
        format!("`lab {verb}` works in network namespaces, which takes root: run it with sudo"),
    ))
}

/// One `up` or `down` at a time, for as long as the file is open. /run itself is locked: a file of
/// our own would stay behind, and `ip netns` locks /run/netns.
fn lock() -> Result<File> {
    let run = File::open("/run").context("cannot open /run")?;
    run.lock().context("cannot lock /run")?;
    Ok(run)
}
