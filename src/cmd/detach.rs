//! `xdpredir detach`

use anyhow::Result;

use crate::cli::{self, Global};
use crate::datapath::{self, Interface, Pins};
use crate::error::{Exit, failure};

pub fn run(global: &Global, args: &cli::Detach) -> Result<()> {
    let pins = Pins::locate(global.pin_dir.as_deref())?;
    let _lock = pins.lock()?;
    let all = datapath::interfaces(&pins)?;
    let which = if args.all {
        all
    } else {
        named(all, &args.interfaces)?
    };
    datapath::detach(&pins, &which, args.keep_rules)?;

    if global.json {
        let names: Vec<String> = which.iter().map(Interface::name).collect();
        return crate::show::json::print(&serde_json::json!({ "detached": names }));
    }
    for interface in &which {
        println!("{}: detached", interface.name());
    }
    if !pins.has_state()? {
        println!("nothing is left under {}", pins.root().display());
    } else if args.keep_rules && pins.interfaces()?.is_empty() {
        println!(
            "rules and counters are kept under {}",
            pins.root().display()
        );
    }
    Ok(())
}

fn named(all: Vec<Interface>, names: &[String]) -> Result<Vec<Interface>> {
    for name in names {
        if !all.iter().any(|interface| interface.answers_to(name)) {
            return Err(failure(
                Exit::NotFound,
                format!("{name}: not attached; `xdpredir status` shows what is"),
            ));
        }
    }
    Ok(all
        .into_iter()
        .filter(|i| names.iter().any(|name| i.answers_to(name)))
        .collect())
}
