//! `xdpredir completions`

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::grammar::Cli;
use xdpredir::view;

pub fn run(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "xdpredir", &mut script);
    view::text(String::from_utf8(script)?)
}
