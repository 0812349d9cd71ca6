//! What a rule, a backend and a counter are. Pure: no I/O, no libbpf.

mod counter;
mod mac;
pub mod maglev;
mod rule;

pub use counter::{Counter, Rate};
pub use mac::Mac;
pub use rule::{Backend, Match, Proto, Rule};

use serde::Serialize;

/// Where in the receive path the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Native,
    Skb,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Mode::Native => "native",
            Mode::Skb => "skb",
        })
    }
}
