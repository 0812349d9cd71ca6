//! What was lost, in words.

use std::collections::BTreeMap;
use std::io::stdout;

use super::style::{self, Tone};
use super::terminal;
use super::units::count;
use crate::model::{EgressStats, Failures, Mode, Reason, Snapshot};

/// A line for each device and reason, and for what is no backend's; none where all arrived.
pub fn lines(snapshot: &Snapshot) -> String {
    let mut lost: BTreeMap<String, Failures> = BTreeMap::new();
    for row in &snapshot.rules {
        let failures = row.failures.unwrap_or_default();
        *lost.entry(row.device()).or_default() += failures;
    }
    let by_kernel = lost
        .iter()
        .flat_map(|(device, failures)| of_device(device, failures));
    let lines = by_kernel
        .chain(dropped_by_devices(snapshot))
        .chain(snapshot.unattributed.and_then(of_nobody));
    lines
        .map(|line| terminal::fit(&line, 2, stdout()) + "\n")
        .collect()
}

fn of_nobody(failures: Failures) -> Option<String> {
    let frames = match failures.total() {
        0 => return None,
        lost => count(lost as usize, "lost frame"),
    };
    Some(format!(
        "{frames} could not be attributed to a backend: the ledger was full, or more waited at a time \
         than it holds: `stats --json` has the reasons, `detach --all` empties it"
    ))
}

/// In generic mode, the kernel doesn't say whether a device keeps what it was given.
fn dropped_by_devices(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    let generic = snapshot.interfaces.iter().any(|i| i.mode == Mode::Skb);
    let dropped = move |device: &&EgressStats| generic && device.tx_dropped > 0;
    snapshot.egress.iter().filter(dropped).map(|device| {
        format!(
            "{} has dropped {} itself, of all that it was given (its tx_dropped)",
            device.ifname,
            count(device.tx_dropped as usize, "frame")
        )
    })
}

fn of_device(device: &str, failures: &Failures) -> Vec<String> {
    let lost = |reason: &Reason| reason.frames > 0;
    let line = |Reason {
                    frames, why, mend, ..
                }| {
        let lost = format!("{} lost", count(frames as usize, "frame"));
        let lost = style::paint(&lost, Tone::Bad, &stdout());
        format!("{lost} at {device} since its backends were added: {why}: {mend}")
    };
    let reasons = failures.reasons(device).into_iter();
    reasons.filter(lost).map(line).collect()
}
