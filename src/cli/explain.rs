//! Errors in the words of the command line: what was typed wrong, by its option, and what helps.

use xdpredir::datapath;
use xdpredir::error;

use super::grammar::Command;
use super::needs;

/// An error on one line, with what the command needs where the kernel or the file system refused.
pub fn line(error: &anyhow::Error, command: &Command) -> String {
    let line = error::one_line(error);
    if datapath::is_refused(error) {
        return format!("{line}: {}", needs::of(command));
    }
    line
}
