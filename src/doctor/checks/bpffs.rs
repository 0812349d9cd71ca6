//! A bpffs that is missing.

use crate::doctor::facts::Facts;
use crate::model::Finding;

pub fn check(facts: &Facts) -> Vec<Finding> {
    let missing = facts.host.no_bpffs.iter();
    missing
        .map(|missing| {
            Finding::problem("bpffs", "pins")
                .consequence("nothing can be attached or kept")
                .evidence(&missing.why)
                .remedy(missing.remedy.clone())
        })
        .collect()
}
