//! Sources that a bridge has behind another port than the attached ones.

use crate::doctor::facts::{Facts, Stray};
use crate::model::Finding;

pub fn check(setup: &Facts) -> Vec<Finding> {
    setup.strays.iter().map(finding).collect()
}

fn finding(stray: &Stray) -> Finding {
    let Stray {
        source,
        mac,
        bridge,
        port,
    } = stray;
    Finding::warning("bridge-entry", format!("source {source}"))
        .consequence(format!(
            "replies to it leave by {port}, where the program isn't attached"
        ))
        .evidence(format!(
            "bridge {bridge} has its MAC address {mac} behind {port}"
        ))
        .mend(format!(
            "`bridge fdb del {mac} dev {port} master` if it is elsewhere, or `xdpredir attach {port}`"
        ))
}
