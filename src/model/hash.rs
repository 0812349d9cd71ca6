//! What of a packet chooses the backend.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What of a packet chooses one of its rule's backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashOf {
    /// All of a flow go to one: addresses, protocol, ports and VLAN.
    #[default]
    Flow,
    /// All of a source address do.
    Source,
    /// Nothing: each goes to any of them.
    Packet,
}

impl HashOf {
    pub const ALL: [HashOf; 3] = [HashOf::Flow, HashOf::Source, HashOf::Packet];

    /// Its name in options, files and JSON.
    pub fn name(self) -> &'static str {
        match self {
            HashOf::Flow => "flow",
            HashOf::Source => "source",
            HashOf::Packet => "packet",
        }
    }
}

impl fmt::Display for HashOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
