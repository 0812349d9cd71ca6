//! `lab`: a test bed of network namespaces.

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Global, Lab};
use crate::lab;

pub fn run(global: &Global, verb: &Lab) -> Result<ExitCode> {
    match verb {
        Lab::Up { bed } => lab::up(global, *bed)?,
        Lab::Down => lab::down(global)?,
        Lab::Status => lab::status(global)?,
        Lab::Tmux => lab::tmux(global)?,
        Lab::Exec { host, command } => return lab::exec(host, command),
    }
    Ok(ExitCode::SUCCESS)
}
