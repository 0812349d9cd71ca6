//! `xdpredir status`

use anyhow::Result;

use crate::cli::Global;
use crate::datapath::{self, Pins, RuleStore};
use crate::show;
use crate::show::json::{Status, StatusInterface};

pub fn run(global: &Global) -> Result<()> {
    let pins = Pins::locate(global.pin_dir.as_deref())?;
    let mut status = Status {
        pin_dir: pins.root().to_path_buf(),
        interfaces: Vec::new(),
        rules: 0,
    };
    let lock = pins.lock_shared()?;
    if lock.is_some() {
        for interface in datapath::interfaces(&pins)? {
            let ids = interface.ids(&pins)?;
            status.interfaces.push(StatusInterface {
                ifname: interface.name(),
                ifindex: interface.ifindex,
                mode: interface.mode,
                program_id: ids.program,
                link_id: ids.link,
                state: ids.state,
                ledger: interface.ledger,
            });
        }
        status.rules = RuleStore::open(&pins)?.count()?;
    }
    if global.json {
        show::json::print(&status)
    } else {
        show::text(show::table::status(&status))?;
        if let Some(why) = pins.no_bpffs() {
            show::sentence(why)?;
        }
        Ok(())
    }
}
