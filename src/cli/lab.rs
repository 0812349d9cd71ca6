//! `lab`: a test bed of network namespaces.

use std::env;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde::Serialize;

use super::grammar::{self, Global};
use super::warnings;
use xdpredir::datapath;
use xdpredir::lab::{self, Lab};
use xdpredir::view;

pub fn run(global: &Global, verb: &grammar::Lab) -> Result<ExitCode> {
    let say = |line: &str| say(global, line);
    let detach = |netns: &str| detach(global, netns);
    let lab = Lab {
        say: &say,
        detach: &detach,
    };
    match verb {
        grammar::Lab::Up { bed } => up(global, &lab, bed)?,
        grammar::Lab::Down => lab.down(|| if_json(global))?,
        grammar::Lab::Status => status(global)?,
        grammar::Lab::Tmux => tmux(global)?,
        grammar::Lab::Exec { host, command } => match lab::exec(host, command)? {},
    }
    Ok(ExitCode::SUCCESS)
}

/// On standard output, or on standard error when that one carries JSON.
fn say(global: &Global, line: &str) {
    if global.json {
        view::complaint(line);
    } else {
        // A commentary that nobody can read is no reason to leave half a bed.
        let _ = view::sentence(line);
    }
}

fn detach(global: &Global, netns: &str) -> Result<Command> {
    let own = env::current_exe().context("cannot find out the path of this program")?;
    let mut command = Command::new(own);
    if let Some(dir) = &global.pin_dir {
        command.arg("--pin-dir").arg(dir);
    }
    command.args(["--netns", netns, "detach", "--all"]);
    Ok(command)
}

fn up(global: &Global, lab: &Lab, bed: &'static lab::Bed) -> Result<()> {
    let pins = super::pins(global)?;
    lab.up(bed)?;
    // Where that helps, `attach` mounts a bpffs itself.
    if let Some(refusal) = datapath::no_bpffs(&pins).filter(|_| !datapath::mounts_bpffs(&pins)) {
        warnings::warn(global, &refusal);
    }
    if_json(global)
}

fn status(global: &Global) -> Result<()> {
    let status = lab::status()?;
    show(global, &status, || status.text())
}

/// After a change, JSON has what is there now.
fn if_json(global: &Global) -> Result<()> {
    if global.json { status(global) } else { Ok(()) }
}

fn tmux(global: &Global) -> Result<()> {
    let session = lab::tmux()?;
    if !global.json && session.can_attach() {
        match session.attach()? {}
    }
    show(global, &session, || session.text())
}

fn show(global: &Global, data: &impl Serialize, text: impl Fn() -> String) -> Result<()> {
    if global.json {
        return view::json::print(data);
    }
    view::line(text())
}
