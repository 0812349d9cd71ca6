//! How a run fails: one line and an exit code.

use std::any::Any;
use std::fmt::{self, Debug, Display};
use std::io::{self, ErrorKind};
use std::path::Path;

use nix::errno::Errno;

use crate::model::{Refusal, Remedy};

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

/// An error whose type tells the exit code. Types that implement this are no `std::error::Error`s, so
/// that `?` cannot wrap one without its code: `Failure::new` does.
pub trait Coded: Any + Debug + Display + Send + Sync {
    /// The exit code of a run that ends with this error.
    fn exit(&self) -> Exit;

    /// What helps, if anything is known to.
    fn remedy(&self) -> Remedy {
        Remedy::default()
    }
}

/// A failure that knows its exit code and a remedy. Its text names the input.
#[derive(Debug)]
pub struct Failure(Box<dyn Coded>);

impl Failure {
    /// The failure as the error that functions return.
    #[allow(clippy::new_ret_no_self)] // Nobody needs a failure that is not an error yet.
    pub fn new(error: impl Coded) -> anyhow::Error {
        Failure(Box::new(error)).into()
    }

    /// The typed error, where it is of that type.
    pub fn typed<T: Coded>(&self) -> Option<&T> {
        (&*self.0 as &dyn Any).downcast_ref()
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Failure {}

#[derive(Debug)]
struct Message(Exit, Refusal);

impl Coded for Message {
    fn exit(&self) -> Exit {
        self.0
    }

    fn remedy(&self) -> Remedy {
        self.1.remedy.clone()
    }
}

impl Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1.why)
    }
}

/// A failure that nobody tells from others but by its exit code: a message, or a message and a remedy.
pub fn failure(exit: Exit, refusal: impl Into<Refusal>) -> anyhow::Error {
    Failure::new(Message(exit, refusal.into()))
}

/// A file that a user named, and that could not be read or written. Nothing helps here that helps where the kernel or
/// the pins refuse something.
pub fn of_file(cannot: &str, path: &Path, error: &io::Error) -> anyhow::Error {
    let exit = match error.kind() {
        ErrorKind::PermissionDenied => Exit::Permission,
        _ => Exit::Failed,
    };
    failure(exit, format!("{cannot} {}: {error}", path.display()))
}

/// The code of the failure nearest to the top; None where there is no failure among the causes.
pub fn coded(error: &anyhow::Error) -> Option<Exit> {
    let mut failures = error.chain().filter_map(|cause| cause.downcast_ref());
    failures.next().map(|failure: &Failure| failure.0.exit())
}

/// The code of the failure nearest to the top; without one, a bare EPERM or EACCES counts as 5.
pub fn exit_code(error: &anyhow::Error) -> Exit {
    coded(error).unwrap_or(if has_kind(error, ErrorKind::PermissionDenied) {
        Exit::Permission
    } else {
        Exit::Failed
    })
}

/// Whether one of the causes is a system call that failed in this way.
pub fn has_kind(error: &anyhow::Error, kind: ErrorKind) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let errno = cause.downcast_ref::<Errno>().copied();
        io.or(errno.map(|errno| io::Error::from(errno).kind())) == Some(kind)
    })
}

/// The remedy that the failure nearest to the top has.
pub fn remedy(error: &anyhow::Error) -> Remedy {
    let failures = error.chain().filter_map(|cause| cause.downcast_ref());
    let mut remedies = failures.map(|failure: &Failure| failure.0.remedy());
    let remedy = remedies.find(|remedy| !remedy.is_empty());
    remedy.unwrap_or_default()
}

/// The error as one line, and its remedy.
pub fn refusal(error: &anyhow::Error) -> Refusal {
    (one_line(error), remedy(error)).into()
}

/// The whole chain of causes on one line.
pub fn one_line(error: &anyhow::Error) -> String {
    join_lines(&format!("{error:#}"))
}

/// The words of a text, on one line.
pub fn join_lines(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
