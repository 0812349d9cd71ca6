//! Finds out why packets do not arrive, fixes what can be fixed, and reverts that.

use anyhow::Result;

use crate::datapath::{Lock, Pins};
use crate::doctor::{self, Reverted, checks};
use crate::model::{Diagnosis, Finding, LookedAt};

/// What was found again after fixes.
pub struct Recheck {
    pub fixed: Vec<Finding>,
    /// Those that are left, and new ones.
    pub left: Diagnosis,
}

/// Runs all checks.
pub fn diagnose(pins: &Pins) -> Result<Diagnosis> {
    let facts = doctor::whole(pins)?;
    Ok(Diagnosis {
        findings: checks::all(&facts),
        looked_at: LookedAt {
            interfaces: facts.interfaces.len(),
            rules: facts.rules.len(),
            servers: facts.backends.len(),
            egress_devices: facts.egress().count(),
        },
    })
}

/// Runs all checks again after fixes. What has been tried in vain is not offered again.
pub fn recheck(pins: &Pins, mut tried: Vec<Finding>) -> Result<Recheck> {
    let mut left = diagnose(pins)?;
    for finding in &mut left.findings {
        if tried.iter().any(|other| other.fix == finding.fix) {
            finding.fix = None;
        }
    }
    tried.retain(|finding| !left.findings.iter().any(|other| other.is_same(finding)));
    tried.iter_mut().for_each(|finding| finding.fixed = true);
    Ok(Recheck { fixed: tried, left })
}

/// Reverts what fixes changed, the last change first.
pub fn revert(pins: &Pins) -> Result<Reverted> {
    let lock = Lock::take(pins)?;
    doctor::undo(pins, &lock)
}
