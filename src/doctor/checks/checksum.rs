//! Egress devices that complete checksums, or don't, unlike what the rules remember.

use super::remedies;
use crate::doctor::facts::{BackendFacts, DeviceFacts, Facts};
use crate::model::{Finding, Mode, Refreshed};

/// Natively, the program completes all itself.
pub fn check(setup: &Facts) -> Vec<Finding> {
    if setup.live().all(|interface| interface.mode == Mode::Native) {
        return Vec::new();
    }
    let stale = |(target, link): &(&BackendFacts, &DeviceFacts)| {
        target.completes_checksum != link.completes_checksum
    };
    let stale = setup.served().filter(stale);
    stale.map(|(target, link)| finding(target, link)).collect()
}

fn finding(target: &BackendFacts, link: &DeviceFacts) -> Finding {
    let (server, name) = (target.server, link.name());
    let now = if link.completes_checksum { "on" } else { "off" };
    Finding::problem("checksum", format!("server {server} by {name}"))
        .consequence("packets of local senders may arrive with checksums that are refused")
        .evidence(format!(
            "tx-checksum of {name} is {now} now, and was not when the rule was made"
        ))
        .mend(remedies::renew(target))
        .fix(Some(target.refresh(Refreshed::Mac(target.mac))))
}
