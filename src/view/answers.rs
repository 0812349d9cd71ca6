//! What a change of the rules did so that the program sees the answers that it has to translate.

use anyhow::Result;

use super::out;
use crate::model::ForAnswers;

/// A line for each interface.
pub fn say(changed: &ForAnswers) -> Result<()> {
    lines(changed).iter().try_for_each(out::sentence)
}

fn lines(changed: &ForAnswers) -> Vec<String> {
    let attached = changed.attached.iter().map(|new| {
        let (name, mode) = (&new.ifname, new.mode);
        format!("attached to {name} ({mode}) for the answers")
    });
    let detached = changed.detached.iter();
    let detached =
        detached.map(|name| format!("detached from {name}: no rule needs it for answers any more"));
    attached.chain(detached).collect()
}
