//! `xdpredir status`

use anyhow::Result;

use super::grammar::Global;
use super::warnings;
use xdpredir::host::xdp;
use xdpredir::{control, datapath, view};

pub fn run(global: &Global) -> Result<()> {
    let pins = super::pins(global)?;
    let status = control::status(&pins)?;
    if global.json {
        return view::json::print(&status);
    }
    view::text(view::table::status(&status))?;
    if !status.interfaces.is_empty() && !xdp::is_reported()? {
        view::sentence(view::features::GUESSED)?;
    }
    // Where that helps, `attach` mounts a bpffs itself.
    let missing = datapath::no_bpffs(&pins).filter(|_| !datapath::mounts_bpffs(&pins));
    let say = |missing| view::sentence(warnings::line(global, &missing));
    missing.map_or(Ok(()), say)
}
