//! Parse, run, print one error line, exit code.

mod checks;
mod cli;
mod cmd;
mod datapath;
mod doctor;
mod error;
mod host;
mod lab;
mod model;
mod show;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches};

use cli::{Cli, Command};
use error::Exit;

fn main() -> ExitCode {
    host::default_sigpipe();
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            let why = error::explain(&error, || cmd::needs::of(&cli.command));
            let why = cmd::paste::complete(&cli.global, &why);
            show::complaint(format_args!("xdpredir: {why}"));
            ExitCode::from(error::exit_code(&error) as u8)
        }
    }
}

/// Help is as wide as the terminal; elsewhere, and at most, as a page.
fn parse() -> Result<Cli, clap::Error> {
    let command = Cli::command().term_width(show::terminal::page());
    let mut matches = command.try_get_matches()?;
    Cli::from_arg_matches_mut(&mut matches)
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    datapath::log_libbpf(cli.global.verbose);
    if let Some(netns) = &cli.global.netns {
        host::netns::enter(netns)?;
    }
    let global = &cli.global;
    match &cli.command {
        Command::Attach(args) => cmd::attach::run(global, args)?,
        Command::Detach(args) => return cmd::detach::run(global, args),
        Command::Status => cmd::status::run(global)?,
        Command::Features(args) => cmd::features::run(global, args)?,
        Command::Doctor(args) => return cmd::doctor::run(global, args),
        Command::Rule(verb) => return cmd::rule::run(global, verb),
        Command::Stats(args) => cmd::stats::run(global, args)?,
        Command::Lab(verb) => return cmd::lab::run(global, verb),
        Command::Completions { shell } => cmd::completions::run(*shell)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Help and version as clap prints them; a usage error as one line, without clap's usage block.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr()
        || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        let _ = error.print();
        return ExitCode::from(error.exit_code() as u8);
    }
    let text = error.render().to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or(&text);
    let said = said
        .split("\n\nFor more information")
        .next()
        .unwrap_or(said);
    let said = said.split("\n\n  tip:").next().unwrap_or(said);
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let like = like(error).map_or_else(String::new, |like| format!("; did you mean {like}?"));
    let said = error::join_lines(said);
    show::complaint(format_args!("xdpredir: {said}{like}; see --help"));
    ExitCode::from(Exit::Usage as u8)
}

/// The words that clap takes for the mistyped one, the most likely first.
fn like(error: &clap::Error) -> Option<String> {
    use ContextKind::{SuggestedArg, SuggestedSubcommand, SuggestedValue};
    let suggested = [SuggestedSubcommand, SuggestedArg, SuggestedValue];
    let found = suggested.into_iter().find_map(|kind| error.get(kind))?;
    let mut words = match found {
        ContextValue::String(word) => vec![word.clone()],
        ContextValue::Strings(words) => words.iter().rev().cloned().collect(),
        _ => return None,
    };
    words
        .iter_mut()
        .for_each(|word| *word = format!("'{word}'"));
    Some(words.join(" or ")).filter(|words| !words.is_empty())
}
