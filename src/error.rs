//! How a run fails: one line and an exit code.

use std::fmt;
use std::io;

use nix::errno::Errno;

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

/// A failure that knows its exit code. Its text names the input and, where there is one, the remedy.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

pub fn failure(exit: Exit, message: impl Into<String>) -> anyhow::Error {
    let message = message.into();
    Failure { exit, message }.into()
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

/// The error for people: one line, with what is needed where the kernel or the file system refused.
pub fn explain(error: &anyhow::Error, needs: impl FnOnce() -> String) -> String {
    let line = one_line(error);
    if is_permission(error) {
        return format!("{line}: {}", needs());
    }
    line
}

/// The whole chain of causes on one line.
pub fn one_line(error: &anyhow::Error) -> String {
    join_lines(&format!("{error:#}"))
}

pub fn join_lines(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
