//! What keeps packets from arriving, as the checks find it.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::{Mac, Remedy, Remote};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Packets are lost, or not redirected.
    Problem,
    /// They may be, or were.
    Warning,
    /// All arrive, but more could in the same time.
    Hint,
}

/// What the checks found.
pub struct Diagnosis {
    pub findings: Vec<Finding>,
    pub looked_at: LookedAt,
}

/// How many of each the checks looked at.
pub struct LookedAt {
    pub interfaces: usize,
    pub rules: usize,
    pub servers: usize,
    pub egress_devices: usize,
}

/// Something that keeps packets from arriving, or may do so.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub severity: Severity,
    /// The device or the server that it is about.
    pub subject: String,
    pub consequence: String,
    pub evidence: String,
    #[serde(skip)]
    pub remedy: Remedy,
    /// The remedy as something that `doctor` can do itself.
    #[serde(skip)]
    pub fix: Option<Fix>,
    /// The fix was made, and the finding is gone.
    #[serde(skip)]
    pub fixed: bool,
}

impl Finding {
    /// A finding that loses packets.
    pub fn problem(check: &'static str, subject: impl Into<String>) -> Self {
        Self::new(check, Severity::Problem, subject.into())
    }

    /// A finding that may lose packets, or did.
    pub fn warning(check: &'static str, subject: impl Into<String>) -> Self {
        Self::new(check, Severity::Warning, subject.into())
    }

    /// A finding that loses nothing.
    pub fn hint(check: &'static str, subject: impl Into<String>) -> Self {
        Self::new(check, Severity::Hint, subject.into())
    }

    fn new(check: &'static str, severity: Severity, subject: String) -> Self {
        Finding {
            check,
            severity,
            subject,
            consequence: String::new(),
            evidence: String::new(),
            remedy: Remedy::default(),
            fix: None,
            fixed: false,
        }
    }

    /// What it does to packets.
    pub fn consequence(mut self, text: impl Into<String>) -> Self {
        self.consequence = text.into();
        self
    }

    /// What shows it.
    pub fn evidence(mut self, text: impl Into<String>) -> Self {
        self.evidence = text.into();
        self
    }

    /// What helps.
    pub fn remedy(mut self, remedy: impl Into<Remedy>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// What `doctor` can do about it.
    pub fn fix(mut self, fix: Option<Fix>) -> Self {
        self.fix = fix;
        self
    }

    /// The same thing found again.
    pub fn is_same(&self, other: &Finding) -> bool {
        self.check == other.check && self.subject == other.subject
    }
}

/// A change that removes a finding, and can be reverted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fix {
    Gro(Remote),
    /// An XDP program that passes all, natively.
    Pass(Remote),
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

/// What is so once the fix is made.
impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fix::Gro(device) => write!(f, "GRO on at {device}"),
            Fix::Pass(device) => write!(f, "pass program on {device}"),
            Fix::LinkUp(device) => write!(f, "{device} up"),
            Fix::Refresh {
                server, mac, to, ..
            } => match to {
                Refreshed::Mac(now) => write!(f, "server {server}: mac {mac} -> {now}"),
                Refreshed::Path => write!(
                    f,
                    "server {server}: the address, device and MAC address that it is found at now"
                ),
            },
        }
    }
}

/// What a backend's rules get from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refreshed {
    /// The same device, with this MAC address for the server.
    Mac(Mac),
    Path,
}
