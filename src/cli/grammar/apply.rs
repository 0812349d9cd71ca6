//! The grammar of `apply`, `diff` and `export`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};
use xdpredir::model::Prefix;

#[derive(Args)]
pub struct Apply {
    /// Files, and directories, of which all files named *.toml and *.json are read; - is standard input
    #[arg(required_unless_present = "confirmed", value_name = "FILE|DIR|-", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub reading: Reading,

    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Take the change back after this time, such as 60s, unless `apply --confirmed` comes before: for whoever may
    /// cut off their own session. A timer of systemd does that. Until then, other changes than `rollback` are refused
    #[arg(long, value_name = "TIME", value_parser = parse_trial, conflicts_with = "dry_run")]
    pub confirm: Option<Duration>,

    /// Keep what `apply --confirm` has changed
    #[arg(long, conflicts_with_all = ["files", "dry_run", "confirm", "partial", "keep_others", "src"])]
    pub confirmed: bool,
}

#[derive(Args)]
pub struct Diff {
    /// Files, and directories, of which all files named *.toml and *.json are read; - is standard input
    #[arg(required = true, value_name = "FILE|DIR|-", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,

    #[command(flatten)]
    pub reading: Reading,
}

/// How files are read.
#[derive(Args)]
pub struct Reading {
    /// Do what can be done where interfaces, devices or backends are not found: these are listed, the exit code is
    /// 1, and the next `apply` looks for them again; `rule refresh`, too, for backends whose address the file has
    #[arg(long)]
    pub partial: bool,

    /// Keep rules and interfaces that are in no file
    #[arg(long)]
    pub keep_others: bool,

    /// The source address of JSON objects that have server, mac and ifindex alone
    #[arg(long, value_name = "ADDR[/LEN]")]
    pub src: Option<Prefix>,
}

#[derive(Args)]
pub struct Export {
    /// How it is written [default: toml; with --json, json]
    #[arg(long, value_enum)]
    pub format: Option<Format>,

    /// Print the JSON Schema of files instead, from which editors complete them
    #[arg(long, conflicts_with = "format")]
    pub schema: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Toml,
    Json,
}

fn parse_trial(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|_| "a time such as 60s or 5m is needed")?;
    let day = Duration::from_secs(24 * 60 * 60);
    match time {
        time if time < Duration::from_secs(1) => Err("shorter than 1s".into()),
        time if time > day => Err("longer than a day".into()),
        time => Ok(time),
    }
}
