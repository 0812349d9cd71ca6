//! Other people's XDP programs behind egress devices, and below interfaces.

use crate::doctor::facts::{DeviceFacts, Facts};
use crate::model::Finding;

pub fn check(setup: &Facts) -> Vec<Finding> {
    setup.egress().filter_map(behind).collect()
}

/// A bridge gets what the programs at its ports leave.
pub fn interfaces(setup: &Facts) -> Vec<Finding> {
    let links = setup.ingress();
    let programs = links.flat_map(|link| link.below.iter().map(move |below| (link.name(), below)));
    programs
        .map(|(name, (port, program))| {
            Finding::warning("foreign-program", name)
                .consequence("another XDP program decides first about what arrives there")
                .evidence(format!("its port {port} runs {program}"))
                .mend(format!(
                    "if packets are missing, look at that program's own counters, or detach it while ours is off {name}"
                ))
        })
        .collect()
}

fn behind(link: &DeviceFacts) -> Option<Finding> {
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
