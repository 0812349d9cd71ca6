//! The command line: its grammar, and one verb a file, from typed arguments to what is printed. Options
//! have their names here and nowhere below.

mod apply;
mod attach;
mod capture;
mod chain;
mod completions;
mod detach;
mod doctor;
mod drain;
mod dump;
mod explain;
mod export;
mod failed;
mod features;
mod flow;
mod grammar;
mod history;
mod lab;
mod load;
mod policy;
mod requests;
mod rollback;
mod rule;
mod stats;
mod status;
mod suggest;
mod target;
mod upgrade;
mod usage;
mod warnings;

use std::io::{Write, stderr};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches};
use xdpredir::control::{self, Pins};
use xdpredir::datapath::Notice;
use xdpredir::{datapath, host, view};

use grammar::{Cli, Command, Global};

pub fn main() -> ExitCode {
    host::default_sigpipe();
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return usage::report(error),
    };
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            warnings::complain(&cli.global, &failed::failed(&error, &cli.command));
            ExitCode::from(datapath::exit_code(&error) as u8)
        }
    }
}

/// Where this run keeps what it pins.
fn pins(global: &Global) -> anyhow::Result<Pins> {
    control::locate(global.pin_dir.as_deref())
}

/// Help is as wide as the terminal; elsewhere, and at most, as a page.
fn parse() -> Result<Cli, clap::Error> {
    let command = Cli::command().term_width(view::terminal::page());
    let mut matches = command.try_get_matches()?;
    Cli::from_arg_matches_mut(&mut matches)
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    datapath::listen(if cli.global.verbose { say_all } else { say });
    if let Some(netns) = &cli.global.netns {
        host::netns::enter(netns).with_context(|| format!("--netns {netns}"))?;
    }
    let global = &cli.global;
    match &cli.command {
        Command::Attach(args) => attach::run(global, args)?,
        Command::Policy(args) => policy::run(global, args)?,
        Command::Detach(args) => return detach::run(global, args),
        Command::Upgrade => upgrade::run(global)?,
        Command::Apply(args) => return apply::run(global, args),
        Command::Diff(args) => return apply::diff(global, args),
        Command::Export(args) => export::run(global, args)?,
        Command::Status => status::run(global)?,
        Command::Features(args) => features::run(global, args)?,
        Command::Doctor(args) => return doctor::run(global, args),
        Command::Capture(args) => return capture::run(global, args),
        Command::Explain(args) => return explain::run(global, args),
        Command::Dump(args) => dump::run(global, args)?,
        Command::Rule(verb) => return rule::run(global, verb),
        Command::Flow(verb) => flow::run(global, verb)?,
        Command::History => history::run(global)?,
        Command::Rollback(args) => return rollback::run(global, args),
        Command::Chain(verb) => chain::run(global, verb)?,
        Command::Stats(args) => stats::run(global, args)?,
        Command::Lab(verb) => return lab::run(global, verb),
        Command::Completions { shell } => completions::run(*shell)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the datapath says before the run ends; libbpf's log only with `--verbose`.
fn say(notice: Notice) {
    if let Notice::Warning(text) = notice {
        view::complaint(format_args!("xdpredir: {text}"));
    }
}

fn say_all(notice: Notice) {
    match notice {
        // Standard error may be closed, and C code that called this cannot unwind.
        Notice::Libbpf(line) => drop(write!(stderr(), "{line}")),
        Notice::Warning(_) => say(notice),
    }
}
