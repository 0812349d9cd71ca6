//! The grammar of `apply`, `diff` and `export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use xdpredir::model::Prefix;

#[derive(Args)]
pub struct Apply {
    #[command(flatten)]
    pub files: Files,

    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What the network namespace is to have.
#[derive(Args)]
pub struct Files {
    /// Files, and directories, of which all files named *.toml and *.json are read; - is standard input
    #[arg(required = true, value_name = "FILE|DIR|-", value_hint = ValueHint::AnyPath)]
    pub files: Vec<PathBuf>,

    /// Do what can be done where interfaces, devices or backends are not found: these are listed, the exit code is
    /// 1, and the next `apply` looks for them again; `rule refresh`, too, for backends whose address the file has
    #[arg(long)]
    pub partial: bool,

    /// Keep rules and interfaces that are in no file
    #[arg(long)]
    pub keep_others: bool,

    /// The source address of objects that have none, but server, mac and ifindex
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
