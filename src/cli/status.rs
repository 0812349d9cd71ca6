//! `xdpredir status`

use anyhow::Result;

use super::explain;
use super::grammar::Global;
use xdpredir::datapath::{self, Pins, RuleStore};
use xdpredir::host::xdp;
use xdpredir::view;
use xdpredir::view::json::{Status, StatusInterface};

pub fn run(global: &Global) -> Result<()> {
    let pins = datapath::locate(global.pin_dir.as_deref())?;
    let read = datapath::read(&pins, || read(&pins))?;
    let (interfaces, rules) = read.unwrap_or_default();
    let status = Status {
        pin_dir: pins.root().to_path_buf(),
        interfaces,
        rules,
    };
    if global.json {
        view::json::print(&status)
    } else {
        view::text(view::table::status(&status))?;
        if !status.interfaces.is_empty() && !xdp::is_told()? {
            view::line(view::features::GUESSED)?;
        }
        if let Some(why) = datapath::no_bpffs(&pins) {
            view::sentence(explain::no_bpffs(&why))?;
        }
        Ok(())
    }
}

/// The interfaces, and how many rules there are.
fn read(pins: &Pins) -> Result<(Vec<StatusInterface>, usize)> {
    let mut interfaces = Vec::new();
    for interface in datapath::interfaces(pins)? {
        let ids = interface.ids(pins)?;
        interfaces.push(StatusInterface {
            ifname: interface.name(),
            ifindex: interface.ifindex,
            mode: interface.mode,
            program_id: ids.program,
            link_id: ids.link,
            state: ids.state,
            ledger: interface.ledger,
        });
    }
    Ok((interfaces, RuleStore::open(pins)?.count()?))
}
