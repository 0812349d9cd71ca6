//! Sources that a bridge has behind another port than the attached ones.

use super::remedies;
use crate::doctor::facts::{BridgeEntry, Facts};
use crate::model::{Finding, Remedy, Tool};

pub fn check(facts: &Facts) -> Vec<Finding> {
    facts.bridge_entries.iter().map(finding).collect()
}

fn finding(entry: &BridgeEntry) -> Finding {
    let (mac, port) = (entry.mac.to_string(), &entry.port);
    let forget = Tool::new("bridge fdb del").arg(&mac).words("dev");
    Finding::warning("bridge-entry", format!("source {}", entry.source))
        .consequence(format!(
            "replies to it leave by {port}, where the program isn't attached"
        ))
        .evidence(format!(
            "bridge {} has its MAC address {mac} behind {port}",
            entry.bridge
        ))
        .remedy(
            Remedy::from(forget.arg(port).words("master"))
                + " if it is elsewhere, or "
                + remedies::attach(&[port], None),
        )
}
