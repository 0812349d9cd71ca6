//! What a change of the rules did so that the program sees the answers that it has to translate.

use anyhow::Result;

use super::out;
use crate::model::{AnswerWay, ForAnswers, Way};

/// A line for each interface.
pub fn say(changed: &ForAnswers) -> Result<()> {
    lines(changed).iter().try_for_each(out::sentence)
}

/// How answers get to clients.
pub fn say_ways(ways: &[AnswerWay]) -> Result<()> {
    let by = |way: Way| {
        let names = ways.iter().filter(|to| to.way == way);
        let names: Vec<&str> = names.map(|to| to.ifname.as_str()).collect();
        Some(names.join(", ")).filter(|names| !names.is_empty())
    };
    if let Some(names) = by(Way::Redirected) {
        out::sentence(format_args!("  answers go straight to {names}"))?;
    }
    if let Some(names) = by(Way::Routed) {
        out::sentence(format_args!(
            "  answers to {names} are handed to this host's routing"
        ))?;
    }
    Ok(())
}

fn lines(changed: &ForAnswers) -> Vec<String> {
    let attached = changed.attached.iter().map(|new| {
        let (name, mode, why) = (&new.ifname, new.mode, &new.reason);
        format!("  attached to {name} ({mode}) for the answers: {why}")
    });
    let detached = changed.detached.iter();
    let detached = detached
        .map(|name| format!("  detached from {name}: no rule needs it for answers any more"));
    attached.chain(detached).collect()
}
