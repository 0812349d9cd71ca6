//! Pins that serve nobody.

use crate::doctor::facts::{Facts, StalePins};
use crate::model::Finding;

pub fn check(setup: &Facts) -> Vec<Finding> {
    setup.remains.iter().map(finding).collect()
}

fn finding(remains: &StalePins) -> Finding {
    match remains {
        StalePins::OtherVersion(path) => {
            Finding::problem("other-version", path.display().to_string())
                .consequence("this version can neither use nor change what is attached")
                .evidence("another version of xdpredir made these pins")
                .mend("detach with that version, or remove the directory to detach all in it")
        }
        StalePins::OtherNamespace(path) => {
            Finding::warning("other-namespace", path.display().to_string())
                .consequence("these pins keep memory in use, probably for nothing")
                .evidence(
                    "no name under /run/netns and no process leads to their network namespace",
                )
                .mend(format!("if it is gone, `rm -r {}`", path.display()))
        }
    }
}
