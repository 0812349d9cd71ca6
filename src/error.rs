//! How a run fails: one line and an exit code.

use std::fmt;
use std::io;

use nix::errno::Errno;

use crate::model::Refusal;

/// The exit codes of the command line's contract, 0 (done) apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    Permission = 5,
    Unsupported = 6,
    Problems = 7,
}

/// A failure that knows its exit code. Its text names the input.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    refusal: Refusal,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.refusal.why)
    }
}

impl std::error::Error for Failure {}

/// A failure with a message, or with a message and a remedy.
pub fn failure(exit: Exit, refusal: impl Into<Refusal>) -> anyhow::Error {
    let refusal = refusal.into();
    Failure { exit, refusal }.into()
}

/// The code of the failure nearest to the top; a bare EPERM or EACCES below it counts as 5.
pub fn exit_code(error: &anyhow::Error) -> Exit {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Failure>().map(|failure| failure.exit))
        .unwrap_or(if is_permission(error) {
            Exit::Permission
        } else {
            Exit::Failed
        })
}

fn is_permission(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
            || cause
                .downcast_ref::<libbpf_rs::Error>()
                .is_some_and(|e| e.kind() == libbpf_rs::ErrorKind::PermissionDenied)
            || cause
                .downcast_ref::<Errno>()
                .is_some_and(|e| matches!(e, Errno::EPERM | Errno::EACCES))
    })
}

/// Whether a file was missing.
pub fn is_not_found(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
            || cause
                .downcast_ref::<libbpf_rs::Error>()
                .is_some_and(|e| e.kind() == libbpf_rs::ErrorKind::NotFound)
    })
}

/// The error as one line, with the remedy that the failure nearest to the top has; where the kernel or
/// the file system refused, with what that needs.
pub fn explain(error: &anyhow::Error, needs: impl FnOnce() -> Refusal) -> Refusal {
    let refusal = refusal(error);
    if !is_permission(error) {
        return refusal;
    }
    let needs = needs();
    (format!("{}: {}", refusal.why, needs.why), needs.remedy).into()
}

/// The error as one line, and the remedy that the failure nearest to the top has.
pub fn refusal(error: &anyhow::Error) -> Refusal {
    let failures = error.chain().filter_map(|cause| cause.downcast_ref::<Failure>());
    let mut remedies = failures.map(|failure| &failure.refusal.remedy);
    let remedy = remedies.find(|remedy| !remedy.is_empty());
    (one_line(error), remedy.cloned().unwrap_or_default()).into()
}

/// The whole chain of causes on one line.
pub fn one_line(error: &anyhow::Error) -> String {
    join_lines(&format!("{error:#}"))
}

pub fn join_lines(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
