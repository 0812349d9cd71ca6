//! `xdpredir history`

use anyhow::Result;

use super::grammar::Global;
use super::pins;
use xdpredir::control;
use xdpredir::view::{self, history::Row};

pub fn run(global: &Global) -> Result<()> {
    let past = control::history(&pins(global)?)?;
    if global.json {
        return view::json::print_all(past.iter().map(Row::new));
    }
    view::text(view::history::table(&past))
}
