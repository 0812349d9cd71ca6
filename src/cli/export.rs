//! `xdpredir export`

use anyhow::Result;

use super::grammar::{self, Format, Global};
use super::pins;
use xdpredir::control;
use xdpredir::view::{self, ruleset};

pub fn run(global: &Global, args: &grammar::Export) -> Result<()> {
    if args.schema {
        return view::json::print(&control::schema());
    }
    let pins = pins(global)?;
    let (whole, rules) = control::export(&pins)?;
    match args.format {
        Some(Format::Toml) => ruleset::toml(whole, rules),
        None if !global.json => ruleset::toml(whole, rules),
        _ => ruleset::json(whole, rules),
    }
}
