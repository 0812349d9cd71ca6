//! Pins that serve nobody.

use crate::doctor::facts::{Facts, StalePins};
use crate::model::{Finding, Place, Remedy, Tool};

pub fn check(facts: &Facts) -> Vec<Finding> {
    facts.stale_pins.iter().map(finding).collect()
}

fn finding(remains: &StalePins) -> Finding {
    match remains {
        StalePins::OtherVersion {
            path,
            difference,
            remedy,
        } => Finding::problem("other-version", path.display().to_string())
            .consequence("this version can neither use nor change what is attached")
            .evidence(format!(
                "another version of xdpredir made these pins: {difference}"
            ))
            .remedy(remedy.clone()),
        StalePins::OtherNamespace(path) => {
            let remove = Tool::new("rm -r").arg(path).at(Place::Anywhere);
            Finding::warning("other-namespace", path.display().to_string())
                .consequence("these pins keep memory in use, probably for nothing")
                .evidence(
                    "no name under /run/netns and no process leads to their network namespace",
                )
                .remedy(Remedy::from("if it is gone, ") + remove)
        }
    }
}
