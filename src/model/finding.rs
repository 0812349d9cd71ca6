//! What keeps packets from arriving, as the checks find it.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::{Mac, Remote};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Packets are lost, or not redirected.
    Problem,
    /// They may be, or were.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Problem => "problem",
            Severity::Warning => "warning",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub severity: Severity,
    /// The device or the server that it is about.
    pub subject: String,
    pub consequence: String,
    pub evidence: String,
    pub mend: String,
    pub fixable: bool,
    pub fixed: bool,
    #[serde(skip)]
    pub fix: Option<Fix>,
}

impl Finding {
    pub fn problem(check: &'static str, subject: impl Into<String>) -> Self {
        Self::new(check, Severity::Problem, subject.into())
    }

    pub fn warning(check: &'static str, subject: impl Into<String>) -> Self {
        Self::new(check, Severity::Warning, subject.into())
    }

    fn new(check: &'static str, severity: Severity, subject: String) -> Self {
        Finding {
            check,
            severity,
            subject,
            consequence: String::new(),
            evidence: String::new(),
            mend: String::new(),
            fixable: false,
            fixed: false,
            fix: None,
        }
    }

    pub fn consequence(mut self, text: impl Into<String>) -> Self {
        self.consequence = text.into();
        self
    }

    pub fn evidence(mut self, text: impl Into<String>) -> Self {
        self.evidence = text.into();
        self
    }

    pub fn mend(mut self, text: impl Into<String>) -> Self {
        self.mend = text.into();
        self
    }

    pub fn fix(mut self, fix: Option<Fix>) -> Self {
        self.fixable = fix.is_some();
        self.fix = fix;
        self
    }

    /// The same thing found again.
    pub fn is_same(&self, other: &Finding) -> bool {
        self.check == other.check && self.subject == other.subject
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            subject,
            consequence,
            evidence,
            mend,
            ..
        } = self;
        write!(f, "{subject}: {consequence} ({evidence}): {mend}")
    }
}

/// A mend that can be made, and undone, without asking for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// GRO on.
    Gro(Remote),
    /// Administratively up.
    LinkUp(Remote),
    /// What the rules say of a backend becomes what the host says now.
    Refresh {
        server: IpAddr,
        ifindex: u32,
        mac: Mac,
        to: Refreshed,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The same device, with this MAC address for the server.
    Mac(Mac),
    /// The way that the host finds.
    Path,
}
