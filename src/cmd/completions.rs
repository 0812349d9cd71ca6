//! `xdpredir completions`

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::cli::Cli;

pub fn run(shell: Shell) {
    generate(
        shell,
        &mut Cli::command(),
        "xdpredir",
        &mut std::io::stdout(),
    );
}
