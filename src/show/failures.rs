//! What was lost, in words.

use std::collections::BTreeMap;

use super::json::RuleRow;
use crate::model::Failures;

/// A line for each device and reason; none where all arrived.
pub fn lines(rows: &[RuleRow]) -> String {
    let mut lost: BTreeMap<String, Failures> = BTreeMap::new();
    for row in rows {
        let failures = row.failures.unwrap_or_default();
        *lost.entry(row.device()).or_default() += failures;
    }
    lost.iter()
        .map(|(device, failures)| of_device(device, failures))
        .collect()
}

fn of_device(device: &str, failures: &Failures) -> String {
    let reasons = [
        (
            failures.not_supported,
            "it, or its peer, takes no redirected frames: `ethtool -K PEER gro on` at a veth's other end"
                .into(),
        ),
        (
            failures.mtu,
            "longer than its MTU: raise it, or lower the senders'".into(),
        ),
        (
            failures.link_down,
            format!("it or its peer is down: `ip link set dev {device} up`, and the same at the other end"),
        ),
        (
            failures.no_device,
            "it went away: `rule add` the backend again".into(),
        ),
        (
            failures.queue_full,
            "it left them over: its queue was full, or its peer's MTU is smaller".into(),
        ),
        (failures.other, "for a reason that is not listed".into()),
    ];
    reasons
        .into_iter()
        .filter(|(frames, _)| *frames > 0)
        .map(|(frames, why)| format!("{frames} frames lost at {device}: {why}\n"))
        .collect()
}
