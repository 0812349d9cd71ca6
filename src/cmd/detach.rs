//! `xdpredir detach`

use anyhow::Result;

use crate::cli::{self, Global};
use crate::datapath::{self, Interface, Pins};
use crate::doctor::{self, Undone};
use crate::error::{Exit, failure};
use crate::host::device;
use crate::model::Change;
use crate::show;

pub fn run(global: &Global, args: &cli::Detach) -> Result<()> {
    let pins = Pins::locate(global.pin_dir.as_deref())?;
    let _lock = pins.lock_to_detach()?;
    let all = datapath::interfaces(&pins)?;
    let count = all.len();
    let which = if args.all {
        all
    } else {
        named(all, &args.interfaces)?
    };
    // What was changed for the sake of rules stays as long as they.
    let mut undone = Undone::default();
    if which.len() == count && !args.keep_rules {
        undone = doctor::undo(&pins)?;
        super::doctor::complain(&undone.errors);
    }
    datapath::detach(&pins, &which, args.keep_rules)?;

    if global.json {
        let names: Vec<String> = which.iter().map(Interface::name).collect();
        return show::json::print(&serde_json::json!({ "detached": names }));
    }
    super::doctor::said("put back", undone.changes.iter().map(Change::undone))?;
    for interface in &which {
        show::line(format_args!("{}: detached", interface.name()))?;
    }
    if !pins.root().exists() {
        show::line(format_args!(
            "nothing is left under {}",
            pins.root().display()
        ))?;
    } else if args.keep_rules && pins.interfaces()?.is_empty() {
        show::line(format_args!(
            "rules and counters are kept under {}",
            pins.root().display()
        ))?;
    }
    Ok(())
}

fn named(all: Vec<Interface>, names: &[String]) -> Result<Vec<Interface>> {
    // attach takes any name of a device (`ip link property add … altname`), so this does, too.
    let named = |interface: &Interface, name: &str| {
        interface.answers_to(name)
            || device::by_name(name).is_ok_and(|device| device.ifindex == interface.ifindex)
    };
    for name in names {
        if !all.iter().any(|interface| named(interface, name)) {
            return Err(failure(
                Exit::NotFound,
                format!("{name}: not attached; `xdpredir status` shows what is"),
            ));
        }
    }
    Ok(all
        .into_iter()
        .filter(|interface| names.iter().any(|name| named(interface, name)))
        .collect())
}
