//! `xdpredir features`

use anyhow::Result;

use super::grammar::{self, Global};
use xdpredir::{control, view};

pub fn run(global: &Global, args: &grammar::Features) -> Result<()> {
    let features = control::features(&args.interfaces)?;
    if global.json {
        return view::json::print(&features);
    }
    view::text(if args.interfaces.is_empty() {
        view::features::table(&features)
    } else {
        view::features::listing(&features)
    })
}
