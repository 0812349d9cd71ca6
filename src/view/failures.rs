//! What was lost, in words.

use std::collections::BTreeMap;
use std::io::stdout;

use super::escape::escape;
use super::remedy::Shell;
use super::style::{self, Tone};
use super::terminal;
use super::units::count;
use crate::model::{Command, EgressStats, Failures, Mode, Reason, Remedy, Snapshot, Verb};

/// What is said of lost frames, and how commands in it are shown.
pub struct Advice {
    /// The reasons for which frames were lost at a device.
    pub reasons: fn(&Failures, &str) -> Vec<Reason>,
    pub shell: Shell,
}

/// A line for each device and reason, and for what is no backend's; none where all arrived.
pub fn lines(snapshot: &Snapshot, advice: &Advice) -> String {
    let mut lost: BTreeMap<String, Failures> = BTreeMap::new();
    for row in &snapshot.rules {
        if row.lost() > 0
            && let (Some(device), Some(failures)) = (row.device(), &row.failures)
        {
            *lost.entry(device).or_default() += failures;
        }
    }
    let by_kernel = lost
        .iter()
        .flat_map(|(device, failures)| of_device(device, failures, advice));
    let unattributed = snapshot.unattributed.as_ref();
    let lines = by_kernel
        .chain(dropped_by_devices(snapshot))
        .chain(unattributed.and_then(|failures| of_nobody(failures, advice)));
    lines
        .map(|line| terminal::fit(&line, 2, stdout()) + "\n")
        .collect()
}

fn of_nobody(failures: &Failures, advice: &Advice) -> Option<String> {
    let frames = match failures.total() {
        0 => return None,
        lost => count(lost as usize, "lost frame"),
    };
    let remedy = Remedy::from(Verb::Plain("stats"))
        + " as JSON has the reasons; "
        + Command::Name("detach")
        + " of all interfaces sets the count to zero";
    Some(format!(
        "{frames} could not be attributed to a backend: a policy forwarded them, the ledger was full, or more \
         waited at a time than it holds: {}",
        advice.shell.sentence(&remedy)
    ))
}

/// In generic mode and at the tc hook, the kernel doesn't say whether a device keeps what it was given.
fn dropped_by_devices(snapshot: &Snapshot) -> impl Iterator<Item = String> {
    let generic = snapshot.interfaces.iter().any(|i| i.mode != Mode::Native);
    let dropped = move |device: &&EgressStats| generic && device.tx_dropped > 0;
    snapshot.egress.iter().filter(dropped).map(|device| {
        format!(
            "{} dropped {} of all that it was to send, redirected or not (its tx_dropped)",
            escape(&device.ifname),
            count(device.tx_dropped as usize, "frame")
        )
    })
}

fn of_device(device: &str, failures: &Failures, advice: &Advice) -> Vec<String> {
    let line = |reason: Reason| {
        let lost = format!("{} lost", count(reason.frames as usize, "frame"));
        let lost = style::paint(&lost, Tone::Bad, &stdout());
        let remedy = advice.shell.sentence(&reason.remedy);
        let why = format!(
            "{device} since its backends were added: {}: {remedy}",
            reason.evidence()
        );
        format!("{lost} at {}", escape(&why))
    };
    let reasons = (advice.reasons)(failures, device).into_iter();
    reasons.map(line).collect()
}
