//! `xdpredir detach`

use std::process::ExitCode;

use anyhow::Result;

use super::grammar::{self, Global};
use super::{doctor, pins, warnings};
use xdpredir::control::{self, DetachRequest, Left};
use xdpredir::datapath::exit_code;
use xdpredir::error::Exit;
use xdpredir::model::{Change, Verb};
use xdpredir::view;

pub fn run(global: &Global, args: &grammar::Detach) -> Result<ExitCode> {
    let pins = pins(global)?;
    let request = DetachRequest {
        interfaces: (!args.all).then(|| args.interfaces.clone()),
        keep_rules: args.keep_rules,
        if_exists: args.if_exists,
    };
    let report = match control::detach(&pins, &request) {
        Err(error) if args.if_exists && exit_code(&error) == Exit::NotFound => {
            return nothing(global);
        }
        report => report?,
    };
    let code = doctor::report_reverted(global, &report.reverted);
    let undone = report.reverted.changes.iter().map(Change::undone);
    if global.json {
        view::json::print(&serde_json::json!({
            "detached": report.detached,
            "undone": undone.collect::<Vec<_>>(),
        }))?;
    } else {
        doctor::print_changes("reverted", undone)?;
        let mut detached = report.detached.iter();
        detached.try_for_each(|name| view::sentence(format_args!("{name}: detached")))?;
        let root = pins.root().display();
        match report.left {
            Left::Nothing => view::sentence(format_args!("nothing is left under {root}"))?,
            Left::Rules => {
                view::sentence(format_args!("rules and counters are kept under {root}"))?
            }
            Left::More => {}
        }
    }
    for name in &report.untranslated {
        let why = format!("answers that arrive at {name} are not translated any more");
        warnings::warn(global, &(why, Verb::attach(name)).into());
    }
    if let Some(stays) = report.cleared? {
        warnings::warn(global, &stays);
    }
    Ok(code)
}

/// Nothing is attached in this network namespace.
fn nothing(global: &Global) -> Result<ExitCode> {
    if global.json {
        view::json::print(&serde_json::json!({ "detached": [], "undone": [] }))?;
    }
    Ok(ExitCode::SUCCESS)
}
