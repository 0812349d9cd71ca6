//! `xdpredir status`

use anyhow::Result;

use super::explain;
use super::grammar::Global;
use xdpredir::host::xdp;
use xdpredir::{control, datapath, view};

pub fn run(global: &Global) -> Result<()> {
    let pins = datapath::locate(global.pin_dir.as_deref())?;
    let status = control::status(&pins)?;
    if global.json {
        return view::json::print(&status);
    }
    view::text(view::table::status(&status))?;
    if !status.interfaces.is_empty() && !xdp::is_told()? {
        view::line(view::features::GUESSED)?;
    }
    let lacking = datapath::no_bpffs(&pins).map(|why| explain::no_bpffs(&why));
    lacking.map_or(Ok(()), view::sentence)
}
