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
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::datapath;
use crate::error::{Exit, failure};
pub use beds::Bed;
use commands::Commands;
use down::Remover;
use inspect::State;

/// What every verb may be told.
pub struct Options<'a> {
    pub json: bool,
    pub pin_dir: Option<&'a Path>,
}

pub fn up(options: &Options, bed: Bed) -> Result<()> {
    require_root("up")?;
    let pins = datapath::locate(options.pin_dir)?;
    let _lock = lock()?;
    let commands = commands(options);
    up::up(commands, &remover(options), bed)?;
    if let Some(why) = datapath::no_bpffs(&pins) {
        crate::view::warning(why);
    }
    if options.json {
        return status(options);
    }
    Ok(())
}

pub fn down(options: &Options) -> Result<()> {
    require_root("down")?;
    let _lock = lock()?;
    remover(options).down()?;
    if options.json {
        status(options)?;
    }
    tmux::end(commands(options))
}

pub fn status(options: &Options) -> Result<()> {
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
    if options.json {
        crate::view::line(serde_json::to_string(&report)?)?;
    } else {
        crate::view::line(show::text(&state, &report))?;
    }
    Ok(())
}

/// Returns only when it fails.
pub fn exec(host: &str, command: &[std::ffi::OsString]) -> Result<ExitCode> {
    require_root("exec")?;
    match exec::exec(host, command)? {}
}

/// On a terminal, returns only when it fails.
pub fn tmux(options: &Options) -> Result<()> {
    require_root("tmux")?;
    let session = open_tmux()?;
    if options.json {
        return crate::view::line(serde_json::to_string(&session)?);
    }
    if tmux::can_attach() {
        match tmux::attach()? {}
    }
    crate::view::line(session.text())
}

fn open_tmux() -> Result<tmux::Session> {
    let _lock = lock()?;
    let hosts = namespace::live()?;
    down::refuse_from_inside(&hosts)?;
    commands::require(&["tmux"])?;
    tmux::open(&hosts)
}

fn commands(options: &Options) -> Commands {
    Commands { json: options.json }
}

fn remover<'a>(options: &Options<'a>) -> Remover<'a> {
    Remover {
        commands: commands(options),
        pin_dir: options.pin_dir,
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
