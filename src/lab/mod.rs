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
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::{Bed, Global};
use crate::datapath::Pins;
use crate::error::{Exit, failure};
use commands::Commands;
use down::Remover;
use inspect::State;

pub fn up(global: &Global, bed: Bed) -> Result<()> {
    require_root("up")?;
    let pins = Pins::locate(global.pin_dir.as_deref())?;
    let _lock = lock()?;
    let commands = commands(global);
    up::up(commands, &remover(global), bed)?;
    if let Some(why) = pins.no_bpffs() {
        crate::show::warning(why);
    }
    if global.json {
        return status(global);
    }
    Ok(())
}

pub fn down(global: &Global) -> Result<()> {
    require_root("down")?;
    let _lock = lock()?;
    remover(global).down()?;
    if global.json {
        status(global)?;
    }
    tmux::end(commands(global))
}

pub fn status(global: &Global) -> Result<()> {
    if !namespace::present().is_empty() {
        require_root("status")?;
        commands::require(&["ip", "nsenter"])?;
    }
    let state = inspect::state()?;
    let bed = match state {
        State::Up(bed) => Some(bed),
        State::Absent | State::Incomplete => None,
    };
    let report = inspect::report(bed)?;
    if global.json {
        crate::show::line(serde_json::to_string(&report)?)?;
    } else {
        crate::show::line(show::text(&state, &report))?;
    }
    Ok(())
}

/// Returns only when it fails.
pub fn exec(host: &str, command: &[std::ffi::OsString]) -> Result<ExitCode> {
    require_root("exec")?;
    match exec::exec(host, command)? {}
}

/// On a terminal, returns only when it fails.
pub fn tmux(global: &Global) -> Result<()> {
    require_root("tmux")?;
    let session = open_tmux()?;
    if global.json {
        return crate::show::line(serde_json::to_string(&session)?);
    }
    if tmux::can_attach() {
        match tmux::attach()? {}
    }
    crate::show::line(session.text())
}

fn open_tmux() -> Result<tmux::Session> {
    let _lock = lock()?;
    let hosts = namespace::live()?;
    down::refuse_from_inside(&hosts)?;
    commands::require(&["tmux"])?;
    tmux::open(&hosts)
}

fn commands(global: &Global) -> Commands {
    Commands { json: global.json }
}

fn remover(global: &Global) -> Remover<'_> {
    Remover {
        commands: commands(global),
        pin_dir: global.pin_dir.as_deref(),
    }
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
