//! `xdpredir detach`

use std::process::ExitCode;

use anyhow::Result;

use super::grammar::{self, Global};
use super::warnings;
use xdpredir::datapath::{self, Interface, Lock, Pins};
use xdpredir::doctor::{self, Reverted};
use xdpredir::error::{Exit, failure};
use xdpredir::host::device;
use xdpredir::model::{Change, Remedy, Verb};
use xdpredir::view;

pub fn run(global: &Global, args: &grammar::Detach) -> Result<ExitCode> {
    let pins = datapath::locate(global.pin_dir.as_deref())?;
    let lock = Lock::take_to_detach(&pins)?;
    let all = datapath::interfaces(&pins)?;
    let count = all.len();
    let which = if args.all {
        all
    } else {
        named(all, &args.interfaces)?
    };
    // What was changed for the sake of rules stays as long as they.
    let undone = if which.len() == count && !args.keep_rules {
        undo(&pins, &lock)
    } else {
        Reverted::default()
    };
    let mut done = Vec::new();
    let detached = which.iter().try_for_each(|interface| {
        datapath::detach(&pins, interface)?;
        done.push(interface);
        Ok(())
    });
    let cleared = detached.and_then(|()| datapath::clear(&pins, args.keep_rules));

    // What was done is said, whatever failed after it.
    let code = super::doctor::report_reverted(global, &undone);
    let undone = undone.changes.iter().map(Change::undone);
    if global.json {
        view::json::print(&serde_json::json!({
            "detached": done.iter().map(|interface| interface.name()).collect::<Vec<_>>(),
            "undone": undone.collect::<Vec<_>>(),
        }))?;
    } else {
        super::doctor::print_changes("reverted", undone)?;
        describe(&pins, &done, args.keep_rules)?;
    }
    if let Some(stays) = cleared? {
        warnings::warn(global, &stays);
    }
    Ok(code)
}

/// What can't be put back keeps nobody from detaching.
fn undo(pins: &Pins, lock: &Lock) -> Reverted {
    doctor::undo(pins, lock).unwrap_or_else(|error| Reverted {
        errors: vec![error],
        ..Reverted::default()
    })
}

fn describe(pins: &Pins, which: &[&Interface], keep_rules: bool) -> Result<()> {
    for interface in which {
        view::sentence(format_args!("{}: detached", interface.name()))?;
    }
    if !pins.root().exists() {
        view::sentence(format_args!(
            "nothing is left under {}",
            pins.root().display()
        ))?;
    } else if keep_rules && datapath::attached(pins)?.is_empty() {
        view::sentence(format_args!(
            "rules and counters are kept under {}",
            pins.root().display()
        ))?;
    }
    Ok(())
}

fn named(all: Vec<Interface>, names: &[String]) -> Result<Vec<Interface>> {
    // attach takes any name of a device (`ip link property add … altname`), so this does, too.
    let is_here = |interface: &Interface, name: &str| {
        device::by_name(name).is_ok_and(|device| device.ifindex == interface.ifindex)
    };
    let named = |interface: &Interface, name: &str| {
        interface.answers_to(name) || !interface.moved && is_here(interface, name)
    };
    for name in names {
        if !all.iter().any(|interface| named(interface, name)) {
            return Err(failure(
                Exit::NotFound,
                (
                    format!("{name}: not attached"),
                    Remedy::from(Verb::Plain("status")) + " shows what is",
                ),
            ));
        }
    }
    Ok(all
        .into_iter()
        .filter(|interface| names.iter().any(|name| named(interface, name)))
        .collect())
}
