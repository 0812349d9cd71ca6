//! What the ledger counted.

use super::Setup;
use crate::model::{Failures, Finding};

pub fn check(setup: &Setup) -> Vec<Finding> {
    let lost = setup.losses.iter();
    lost.flat_map(|(ifindex, failures)| {
        let link = setup.devices.get(ifindex);
        let gone = || format!("ifindex {ifindex}");
        of_device(&link.map_or_else(gone, |link| link.name().into()), failures)
    })
    .collect()
}

/// Totals since `attach`: the cause may be gone.
fn of_device(name: &str, failures: &Failures) -> Vec<Finding> {
    let reasons = failures.reasons(name).into_iter();
    let lost = reasons.filter(|reason| reason.frames > 0);
    lost.map(|reason| {
        let frames = if reason.frames == 1 {
            "frame was"
        } else {
            "frames were"
        };
        Finding::warning("losses", name)
            .consequence(format!(
                "{} {frames} lost there since the backends were added",
                reason.frames
            ))
            .evidence(reason.why)
            .mend(reason.mend)
    })
    .collect()
}
