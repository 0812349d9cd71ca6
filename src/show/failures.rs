//! What was lost, in words.

use std::collections::BTreeMap;

use super::human;
use super::json::RuleRow;
use crate::model::{Failures, Reason};

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
    let lost = |reason: &Reason| reason.frames > 0;
    let line = |Reason { frames, why, mend }| {
        let frames = human::number(frames as f64);
        format!("{frames} lost at {device}: {why}: {mend}\n")
    };
    let reasons = failures.reasons(device).into_iter();
    reasons.filter(lost).map(line).collect()
}
