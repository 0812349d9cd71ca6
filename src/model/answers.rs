//! What a change of the rules does so that the program sees the answers that it has to translate.

use serde::Serialize;

use super::Mode;

/// Interfaces that a change attached for answers alone, and those that nobody needs for them any more.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ForAnswers {
    pub attached: Vec<AnswerInterface>,
    /// Their names.
    pub detached: Vec<String>,
}

/// An interface that was attached for answers alone.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerInterface {
    pub ifname: String,
    pub ifindex: u32,
    pub mode: Mode,
    /// Why this mode.
    pub reason: String,
}

impl ForAnswers {
    /// Adds what a later change has done.
    pub fn extend(&mut self, later: ForAnswers) {
        self.attached.extend(later.attached);
        self.detached.extend(later.detached);
    }
}

/// How translated answers get to the clients behind an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnswerWay {
    pub ifname: String,
    pub way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The program redirects them there.
    Redirected,
    /// The program hands them to the host's stack, which routes them.
    Routed,
}
