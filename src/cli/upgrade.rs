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
    sentences(taken_over).try_for_each(view::sentence)
}

/// The same, where standard output is for something else.
pub fn complain(taken_over: &[TakenOver]) {
    sentences(taken_over).for_each(|line| view::complaint(format_args!("xdpredir: {line}")));
}

fn sentences(taken_over: &[TakenOver]) -> impl Iterator<Item = String> {
    taken_over.iter().map(|interface| {
        let TakenOver { ifname, from, .. } = interface;
        let from = from.as_deref().unwrap_or("an earlier one");
        let restarted = match interface.counters_kept {
            true => "",
            false => "; its counters of outcomes begin at zero",
        };
        format!("{ifname}: taken over by this version, {VERSION}, from {from}{restarted}")
    })
}
