//! An interface that the program is attached to.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Counter;

/// The MTU of Ethernet, in bytes. With a larger one, a driver may refuse native programs, or accept only
/// those that take frames in several buffers (xdp.frags).
pub const ETHERNET_MTU: u32 = 1500;

/// Where in the receive path the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver, before an skb exists.
    Native,
    /// Generic XDP: in the stack, on any device.
    Skb,
    /// tc, on arrival: in the stack, behind generic XDP.
    Tc,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mode::Native => "native",
            Mode::Skb => "skb",
            Mode::Tc => "tc",
        })
    }
}

/// What the program is attached to an interface for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// The user attached it: rules take packets there, and answers are translated there, too.
    #[default]
    Rules,
    /// Rules had it attached, because answers arrive there. Rules take nothing there.
    Answers,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Purpose::Rules => "rules",
            Purpose::Answers => "answers",
        })
    }
}

/// An interface that another version of the command attached, and whose program this one has replaced.
#[derive(Clone, Debug, Serialize)]
pub struct TakenOver {
    pub ifname: String,
    pub ifindex: u32,
    pub mode: Mode,
    /// None: it said nothing of its version.
    pub from: Option<String>,
    /// Its counters of outcomes go on; else they begin at zero.
    pub counters_kept: bool,
}

/// Whether the program still sees packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    Attached,
    /// The device was unregistered.
    Gone,
    /// The device is in another network namespace, or was and has another index since. The program sees
    /// what arrives there.
    Moved,
    /// Another program detached it by force.
    Detached,
}

/// Whether the ledger counts what the kernel loses after a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LedgerState {
    On,
    /// The user attached without it.
    Unwanted,
    /// The kernel has no BTF, or refused the tracing programs.
    Unavailable,
}

/// Packets and bytes by XDP action.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Actions {
    pub aborted: Counter,
    pub drop: Counter,
    pub pass: Counter,
    pub tx: Counter,
    pub redirect: Counter,
}

/// Packets and bytes by what became of them: one for each way out of the program.
#[derive(Clone, Debug, Default)]
pub struct Outcomes(pub Vec<Outcome>);

/// One of the ways out of the program.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Its key in JSON.
    pub name: &'static str,
    /// The XDP action that it comes with.
    pub action: &'static str,
    /// The packets that left the program this way.
    pub counter: Counter,
}

impl Outcomes {
    /// How many packets had this outcome.
    pub fn packets(&self, name: &str) -> u64 {
        let found = self.0.iter().find(|outcome| outcome.name == name);
        found.map_or(0, |outcome| outcome.counter.packets)
    }
}

impl Serialize for Outcomes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|o| (o.name, o.counter)))
    }
}
