//! Whether this kernel loads the programs: what runs is proof enough, what doesn't is tried.

use anyhow::Result;

use crate::datapath::exit_code;
use crate::datapath::{self, Interface};
use crate::doctor::facts::{HostFacts, Trial};
use crate::error::{Exit, one_line};
use crate::model::LedgerState;

/// `running`: the interfaces on which packets meet the program.
pub fn make(host: &mut HostFacts, running: &[&Interface]) {
    if !running.is_empty() {
        host.program = Trial::Loaded;
    }
    if running
        .iter()
        .any(|interface| interface.ledger == LedgerState::On)
    {
        host.ledger = Trial::Loaded;
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
}

/// What may not be tried says nothing about the kernel.
fn trial(result: Result<()>) -> Trial {
    match result {
        Ok(()) => Trial::Loaded,
        Err(error) if exit_code(&error) == Exit::Permission => Trial::Forbidden(one_line(&error)),
        Err(error) => Trial::Refused(one_line(&error)),
    }
}
