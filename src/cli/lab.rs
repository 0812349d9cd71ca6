//! `lab`: a test bed of network namespaces.

use std::process::ExitCode;

use anyhow::Result;

use super::grammar::{Global, Lab};
use super::suggest;
use xdpredir::lab;

pub fn run(global: &Global, verb: &Lab) -> Result<ExitCode> {
    let options = &lab::Options {
        json: global.json,
        pin_dir: global.pin_dir.as_deref(),
        shell: &suggest::shell(global),
    };
    match verb {
        Lab::Up { bed } => lab::up(options, (*bed).into())?,
        Lab::Down => lab::down(options)?,
        Lab::Status => lab::status(options)?,
        Lab::Tmux => lab::tmux(options)?,
        Lab::Exec { host, command } => return lab::exec(host, command),
    }
    Ok(ExitCode::SUCCESS)
}
