//! Other people's XDP programs behind egress devices.

use super::{Link, Setup};
use crate::model::Finding;

pub fn check(setup: &Setup) -> Vec<Finding> {
    setup.egress().filter_map(finding).collect()
}

fn finding(link: &Link) -> Option<Finding> {
    let program = link.there.as_ref()?.program.as_ref()?;
    let peer = link.peer()?;
    Some(
        Finding::warning("foreign-program", link.name())
            .consequence(
                "another XDP program decides about what is redirected to it, and may drop it",
            )
            .evidence(format!("its peer {peer} runs {program}"))
            .mend("if packets are missing, look at that program's own counters, or detach it"),
    )
}
