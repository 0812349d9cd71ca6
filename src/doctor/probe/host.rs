//! What the host has, what it keeps, and whether its kernel loads the programs.

use anyhow::Result;

use crate::datapath::{self, Interface, Pins};
use crate::doctor::facts::{HostFacts, StalePins, Trial};
use crate::error::{Coded, Exit, refusal};
use crate::host::features::Survey;
use crate::host::namespaces::Namespaces;
use crate::host::{capability, kernel};
use crate::model::LedgerState;

pub fn host(pins: &Pins, survey: &Survey) -> HostFacts {
    HostFacts {
        // Where that helps, `attach` mounts a bpffs itself.
        no_bpffs: datapath::no_bpffs(pins).filter(|_| !datapath::mounts_bpffs(pins)),
        lacks_to_attach: capability::missing(capability::ATTACH),
        lacks_to_look: capability::missing(capability::ENTER),
        cpus: kernel::cpus(),
        tells_features: survey.is_reported(),
        ..HostFacts::default()
    }
}

pub fn stale_pins(pins: &Pins, host: &HostFacts) -> Result<Vec<StalePins>> {
    let others = datapath::other_versions(pins)?.into_iter();
    let other = others.map(|other| StalePins::OtherVersion {
        remedy: other.remedy(),
        path: other.path,
        difference: other.difference,
    });
    let mut stale: Vec<StalePins> = other.collect();
    let others = datapath::other_namespaces(pins)?;
    // A process that can't enter namespaces can't tell which of them live.
    let sees_in = host.lacks_to_look.is_empty();
    if sees_in && !others.is_empty() {
        let living = Namespaces::cookies();
        let others = others.into_iter();
        let dead = others.filter(|(cookie, _)| !living.contains(cookie));
        stale.extend(dead.map(|(_, path)| StalePins::OtherNamespace(path)));
    }
    Ok(stale)
}

/// Loads the programs, unless `running`, the interfaces on which packets meet them, prove that it can be done.
pub fn try_programs(host: &mut HostFacts, running: &[&Interface]) {
    if !running.is_empty() {
        host.program = Trial::Loaded;
    }
    if running
        .iter()
        .any(|interface| interface.ledger == LedgerState::On)
    {
        host.ledger = Trial::Loaded;
    }
    if running.iter().any(|interface| interface.sees_links) {
        host.links = Trial::Loaded;
    }
    if !host.lacks_to_attach.is_empty() {
        return;
    }
    if running.is_empty() {
        host.program = trial(datapath::try_program());
    }
    let unwanted = |interface: &&Interface| interface.ledger == LedgerState::Unwanted;
    let is_wanted = running.is_empty() || !running.iter().all(unwanted);
    if host.ledger == Trial::NotTried && host.program == Trial::Loaded && is_wanted {
        host.ledger = trial(datapath::try_ledger());
    }
    if host.links == Trial::NotTried && host.program == Trial::Loaded {
        host.links = trial(datapath::require_links());
    }
}

/// A program that this process may not load says nothing about the kernel.
fn trial(result: Result<()>) -> Trial {
    match result {
        Ok(()) => Trial::Loaded,
        Err(error) if datapath::exit_code(&error) == Exit::Permission => {
            Trial::Forbidden(refusal(&error))
        }
        Err(error) => Trial::Refused(refusal(&error)),
    }
}
