//! Errors in the words of the command line: what was typed wrong, by its option, and what helps.

use xdpredir::datapath;
use xdpredir::error;
use xdpredir::model::Refusal;

use super::grammar::Command;
use super::needs;

/// An error on one line, with what the command needs where the kernel or the file system refused.
pub fn refusal(error: &anyhow::Error, command: &Command) -> Refusal {
    let refusal = error::refusal(error);
    if !datapath::is_refused(error) {
        return refusal;
    }
    let needs = needs::of(command);
    (format!("{}: {}", refusal.why, needs.why), needs.remedy).into()
}
