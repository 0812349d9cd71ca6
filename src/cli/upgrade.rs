//! `xdpredir upgrade`

use anyhow::Result;

use super::grammar::Global;
use xdpredir::control;
use xdpredir::datapath::VERSION;
use xdpredir::model::TakenOver;
use xdpredir::view;

pub fn run(global: &Global) -> Result<()> {
    let taken_over = control::upgrade(&super::pins(global)?)?;
    if global.json {
        return view::json::print(&serde_json::json!({
            "version": VERSION,
            "taken_over": taken_over,
        }));
    }
    say(&taken_over)?;
    match taken_over.is_empty() {
        true => view::sentence(format_args!("all is of this version, {VERSION}")),
        false => Ok(()),
    }
}

/// Says which interfaces were taken over.
pub fn say(taken_over: &[TakenOver]) -> Result<()> {
    let mut all = taken_over.iter();
    all.try_for_each(|interface| {
        let TakenOver { ifname, from, .. } = interface;
        let from = from.as_deref().unwrap_or("an earlier one");
        let restarted = match interface.counters_kept {
            true => "",
            false => "; its counters of outcomes begin at zero",
        };
        view::sentence(format_args!(
            "{ifname}: taken over by this version, {VERSION}, from {from}{restarted}"
        ))
    })
}
